"""A network trained on the way to something else, such as the judge of a generator's pictures."""

import hashlib
from importlib import metadata

import jax
from flax import serialization

from dl.core.errors import NonFiniteError
from dl.core.experiment import Experiment
from dl.core.lanes import step_of
from dl.core.state import init_state
from dl.core.step import scan_steps, zero_metrics
from dl.core.task import Variables
from dl.data.readers.files import write_whole
from dl.platform import cache_folder


def train_cached(experiment: Experiment) -> Variables:
    """The variables after the last of ``experiment.steps``, trained without a run folder.

    They are kept in the user's cache under a digest of all they depend on: the program (with every
    hyper-parameter and the seed inside), the data and the compiler. So the second call, in whichever
    process, only reads. The data must live on the device; nothing is evaluated and nothing selected.

    Raises:
      NonFiniteError: the loss was not finite.
    """
    step = step_of(experiment)

    def fit(data):
        state = init_state(
            experiment.task,
            experiment.optimizer,
            data[0],
            experiment.seed,
            experiment.ema is not None,
        )
        totals = zero_metrics(lambda *args: step(*args)[1], state, data[0])
        state, _, finite = scan_steps(step)(state, totals, data, experiment.steps)
        return state.eval_variables, finite

    lowered = jax.jit(fit).lower(experiment.data)
    hasher = hashlib.sha256(lowered.as_text().encode())
    device = jax.devices()[0]
    for part in (experiment.data.digest(), metadata.version("jaxlib"), device.device_kind):
        hasher.update(part.encode())
    path = cache_folder() / "fitted" / f"{hasher.hexdigest()}.msgpack"
    if path.is_file():
        try:
            return serialization.from_bytes(
                jax.eval_shape(fit, experiment.data)[0], path.read_bytes()
            )
        except ValueError:  # damaged or cut off: it can be made again
            pass
    variables, finite = lowered.compile()(experiment.data)
    if not finite:
        raise NonFiniteError("the loss became NaN or infinite: lower the learning rate")
    variables = jax.device_get(variables)
    write_whole(path, lambda file: file.write(serialization.to_bytes(variables)))
    return variables
