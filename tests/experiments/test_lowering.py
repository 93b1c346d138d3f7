"""Every script's training step, lowered for machines that are not here."""

import re

import jax
import pytest
from test_scripts import CUT, FOLDER, NEEDS_DATA, TINY, beginning_of

from dl.core.experiment import built
from dl.parallel.devices import CARDS, Machine, answering_for
from dl.runs.scripts import load_script
from dl.training.compiled import Compiled
from dl.training.prefetch import prefetch

# Optax's loss writes columns into a table, each once: a scatter in which nothing is added.
WRITES = {"speech_ctc"}


def lowered(experiment, card):
    """The StableHLO of a step."""
    where = Machine(card, CARDS[card], [])
    source = prefetch(experiment.data, 0)
    batches = jax.eval_shape(lambda: source.at(0)[0])
    source.close()
    with answering_for(where.card):
        compiled = Compiled(experiment, elsewhere=where)
        own = compiled.shapes(), compiled.empty_metrics(), compiled.lying(batches)
        traced, _ = compiled.traced_step(*own)
        return compiled.lower(traced).as_text()


# Other models than a script's usual one, of layers that the others lack.
MORE = {
    "convnext": ("image_classification", {"model": "convnext", "widths": (4, 8), "depth": 1}),
    "mamba": ("gpt", {**TINY["gpt"], "mixer": "mamba"}),
}
CASES = {name: (name, fields) for name, fields in sorted(TINY.items())} | MORE


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tiny"), CASES.values(), ids=CASES)
def test_a_step_lowers_for_gpu_and_tpu_in_both_precisions(name, tiny, request, monkeypatch):
    kind, build = load_script(FOLDER / f"{name}.py")
    if name in CUT:
        for place in ("dl.load", "dl.data.own.door.load", "dl.data.own.boxes.load"):
            monkeypatch.setattr(place, beginning_of)
    if name in NEEDS_DATA:
        monkeypatch.setenv("DL_DATA_DIR", str(request.getfixturevalue("data_dir")))
    halves = [False, True] if "bfloat16" in kind.__dataclass_fields__ else [False]
    for half in halves:
        fields = {**tiny, **({"bfloat16": True} if half else {})}
        experiment = built(build, kind(**fields))
        for card in ("h100", "v5e"):
            text = lowered(experiment, card)
            assert "callback" not in text
            assert "f64" not in text
            if name not in WRITES:
                assert not re.search(r"stablehlo\.(scatter|select_and_scatter)", text), card
            if half:
                products = re.findall(r"stablehlo\.(?:dot_general|convolution).*", text)
                assert any("bf16" in line for line in products), products[:3]
