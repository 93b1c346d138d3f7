"""Two players in one scalar (Goodfellow et al. 2014, "Generative adversarial nets").

The loss is the discriminator's, with the generator held still, plus the generator's, with the
discriminator held still: one gradient, each half of which reaches its own player alone. So the ordinary
step trains both, and Optax gives each its own optimiser (:func:`players`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from dl.core.column_checks import pixels
from dl.core.errors import bounded
from dl.core.metrics import mean
from dl.core.random import content_keys, example_keys, purpose_key
from dl.core.task import Task, in_precision_of
from dl.models.gan import GAN
from dl.tasks.classification import unit_range


class Objective(NamedTuple):
    """What each player descends, elementwise on scores.

    Attributes:
      discriminator: ``(scores of real, scores of fake) -> loss``; generator: ``scores of fake -> loss``.
    """

    discriminator: Callable[[jax.Array, jax.Array], jax.Array]
    generator: Callable[[jax.Array], jax.Array]


# Goodfellow et al. 2014, with the generator's loss of section 3 that does not saturate.
non_saturating = Objective(
    lambda real, fake: jax.nn.softplus(-real) + jax.nn.softplus(fake),
    lambda fake: jax.nn.softplus(-fake),
)
# Lim & Ye 2017; Miyato et al. 2018.
hinge = Objective(
    lambda real, fake: jax.nn.relu(1.0 - real) + jax.nn.relu(1.0 + fake), lambda fake: -fake
)
# Arjovsky et al. 2017; needs a gradient penalty or spectral norm.
wasserstein = Objective(lambda real, fake: fake - real, lambda fake: -fake)


def adversarial(
    model: GAN,
    objective: Objective = non_saturating,
    *,
    gradient_penalty: float | jax.Array = 0.0,
    inputs: str = "image",
    label: str | None = None,
    prepare: Callable[[jax.Array], jax.Array] = unit_range,
) -> Task:
    """Generator against discriminator on ``prepare(batch[inputs])``, in -1..1 as the generator's tanh.

    Args:
      gradient_penalty: weight of ``(|d score / d picture| - 1)^2`` between real and generated pictures
        (Gulrajani et al. 2017, WGAN-GP; 10 there). A plain 0 leaves it out.
      label: the batch's column that conditions both players, int ``[batch]``, or None.

    Metrics: ``loss``, the sum of both; ``discriminator`` (with the penalty) and ``generator``; ``real``
    and ``fake``, mean scores. None of them says how good the pictures are.
    """
    bounded("gradient_penalty", gradient_penalty, at_least=0)
    penalized = isinstance(gradient_penalty, jax.Array) or gradient_penalty != 0

    def labels(batch):
        return None if label is None else batch[label]

    def run(method, variables, x, label, train: bool) -> tuple[Any, dict]:
        """Outputs, and the variables with what training changed in them."""
        x = in_precision_of(variables, x)
        if not train:
            return model.apply(variables, x, label, method=method), variables
        mutable = [name for name in variables if name != "params"]
        outputs, updates = model.apply(
            variables, x, label, train=True, method=method, mutable=mutable
        )
        return outputs, {**variables, **updates}

    def steepness(variables, real, fake, label, keys):
        share = jax.vmap(jax.random.uniform)(keys).reshape(-1, *(1,) * (real.ndim - 1))
        between = share * real + (1.0 - share) * fake

        def total(x):
            return jnp.sum(run("discriminate", variables, x, label, False)[0])

        slope = jax.grad(total)(between).reshape(len(real), -1)
        # The small number keeps the square root's own slope finite at 0.
        return jnp.square(jnp.sqrt(jnp.sum(jnp.square(slope), axis=1) + 1e-12) - 1.0)

    def init(key, batch):
        return dict(model.init(key, prepare(batch[inputs]), labels(batch)))

    def apply(variables, batch, key):
        """What each player descends and says of each example, by name ``[batch]``."""
        train = key is not None
        if train:
            keys = example_keys(purpose_key(key, "noise"), len(batch[inputs]))
        else:
            keys = content_keys(purpose_key(jax.random.key(0), "noise"), batch[inputs])
        real, label = prepare(batch[inputs]), labels(batch)
        noise = jax.vmap(lambda key: jax.random.normal(key, (model.latent,)))(keys)
        fake, variables = run("generate", variables, noise, label, train)
        still = jax.lax.stop_gradient(fake)
        both = jnp.concatenate([real, still])
        twice = None if label is None else jnp.concatenate([label, label])
        scores, variables = run("discriminate", variables, both, twice, train)
        real_score, fake_score = jnp.split(scores.astype(jnp.float32), 2)
        critic = objective.discriminator(real_score, fake_score)
        if penalized and train:
            share = jax.vmap(lambda key: jax.random.fold_in(key, 1))(keys)
            critic = critic + gradient_penalty * steepness(variables, real, still, label, share)

        params = variables["params"]
        judge = {**params, "discriminator": jax.lax.stop_gradient(params["discriminator"])}
        verdict, _ = run("discriminate", {**variables, "params": judge}, fake, label, False)
        generator = objective.generator(verdict.astype(jnp.float32))
        outputs = {
            "loss": critic + generator,
            "discriminator": critic,
            "generator": generator,
            "real": real_score,
            "fake": fake_score,
        }
        return outputs, {name: value for name, value in variables.items() if name != "params"}

    def score(outputs, batch, train):
        return {name: mean(values, batch.get("mask")) for name, values in outputs.items()}

    def predict(variables, columns):
        """Pictures ``[batch, *shape]`` in -1..1 from ``noise [batch, latent]`` (and the label's column)."""
        return run("generate", variables, columns["noise"], labels(columns), False)[0]

    def check(variables, batch, columns):
        if prepare is unit_range:
            pixels(inputs, columns[inputs])

    columns = ("noise",) if label is None else ("noise", label)
    return Task(init, apply, score, predict, columns, check)


def players(
    generator: optax.GradientTransformation,
    discriminator: optax.GradientTransformation,
    *,
    critic_steps: int = 1,
) -> optax.GradientTransformation:
    """One optimiser of both: the discriminator moves at every step, the generator (parameters and
    optimiser state) at every ``critic_steps``-th (5 in Gulrajani et al. 2017)."""
    bounded("critic_steps", critic_steps, at_least=1, whole=True)
    if critic_steps > 1:
        generator = optax.conditionally_mask(
            generator, lambda step, *_: step % critic_steps == critic_steps - 1
        )

    def owner(params):
        return {name: jax.tree.map(lambda _, n=name: n, part) for name, part in params.items()}

    transforms = {"generator": generator, "discriminator": discriminator}
    return optax.partition(transforms, owner)
