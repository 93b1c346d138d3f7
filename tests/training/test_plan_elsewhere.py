"""Plans of machines that are not here, without their compilers."""

import functools
from pathlib import Path
from types import SimpleNamespace

import jax
import pytest
from mistakes import raises

from dl.cli.plan import plan
from dl.core.errors import UserError
from dl.parallel.devices import CARDS, Machine
from dl.runs.options import Options
from dl.training import plan_elsewhere
from dl.training.prefetch import check_divisible

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
H100 = Machine("h100", CARDS["h100"], [])


def of(rows, micro=1, size=10**6):
    assert rows <= size
    return SimpleNamespace(data=SimpleNamespace(batch_size=rows, size=size), micro_batches=micro)


@pytest.mark.parametrize(
    ("micro", "limit", "most"),
    [(1, 100, 9), (4, 100, 9), (4, 3, 3), (1, 5000, 6), (1, 16, 5), (1, 1, 7), (3, 10**7, 10)],
)
@pytest.mark.parametrize("power", [0.0, 1.0, 1.3])
def test_the_largest_batch_is_found_among_those_that_can_be_cut(
    monkeypatch, micro, limit, most, power
):
    """Whether memory grows along a line, or does not, or not at all until it is too much."""
    asked = []

    def planned(experiment, machine, options):
        rows = experiment.data.batch_size
        assert rows % micro == 0
        asked.append(rows)
        return SimpleNamespace(fits=rows <= limit, total=rows**power, memory=limit**power)

    monkeypatch.setattr(plan_elsewhere, "planned", planned)
    found = plan_elsewhere.largest_batch(lambda n: of(n, micro), H100, Options(), 16)
    assert found <= limit
    if limit < 10**6:
        assert limit < found + max(micro, found // 8) + micro
    if power:
        assert len(asked) <= most


@pytest.mark.parametrize("grows", [0.0, 1.0])
def test_no_batch_is_larger_than_the_training_set(monkeypatch, grows):
    asked = []

    def planned(experiment, machine, options):
        asked.append(experiment.data.batch_size)
        return SimpleNamespace(fits=True, total=1 + grows * asked[-1], memory=1e9)

    monkeypatch.setattr(plan_elsewhere, "planned", planned)
    for micro in (1, 4):
        one = functools.partial(of, micro=micro, size=1257)
        assert plan_elsewhere.largest_batch(one, H100, Options(), 64) == 1257 // micro * micro
    assert len(asked) <= (6 if grows else 12)


def test_the_largest_batch_of_a_fixed_topology_can_be_cut_by_it(monkeypatch):
    def planned(experiment, machine, options):
        rows = experiment.data.batch_size
        assert rows % 8 == 0
        return SimpleNamespace(fits=rows <= 100, total=rows, memory=100)

    fixed, options = SimpleNamespace(pieces=8), Options(deterministic_topology=True)
    monkeypatch.setattr(plan_elsewhere, "planned", planned)
    monkeypatch.setattr(plan_elsewhere, "layout_of", lambda *given: fixed if given[2] else None)
    assert plan_elsewhere.largest_batch(of, H100, options, 16) == 96


def test_a_script_without_batches_has_no_largest(monkeypatch, capfd):
    monkeypatch.setattr("dl.parallel.devices.machine", lambda text: H100)
    with raises("option-misplaced", "style_transfer", "batch_size"):
        plan(EXPERIMENTS / "style_transfer.py", device="h100", largest_batch=True)


def test_micro_batches_are_cut_over_the_mesh_too():
    eight = SimpleNamespace(pieces=8)
    check_divisible(of(64, 8), eight)  # type: ignore[arg-type]
    with raises("shard-impossible", "micro-batches of 4 rows", "a multiple of 128"):
        check_divisible(of(64, 16), eight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gib", "said"),
    [
        (50, "50 GiB of 59.33 GiB: fits "),
        (70, "does not fit, but does with XLA_CLIENT_MEM_FRACTION=0.95"),
        (78, "78 GiB of 59.33 GiB: does not fit "),
    ],
)
def test_a_plan_says_whether_it_fits_into_what_jax_takes(monkeypatch, capsys, gib, said):
    monkeypatch.setenv("COLUMNS", "140")
    for variable in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(variable, raising=False)
    found = plan_elsewhere.Planned(1, {"data": gib * 2**30}, H100.taken * H100.card.memory)
    monkeypatch.setattr(plan_elsewhere, "planned", lambda *given: found)
    plan_elsewhere.print_plan(of(8), H100, Options())  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert said in shown
    assert "0.75 of 79.11 GiB" in shown


def test_what_another_release_s_compiler_writes_is_called_unknown_and_not_nothing(
    monkeypatch, capsys
):
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(plan_elsewhere.metadata, "version", lambda name: f"of {name}")
    found = plan_elsewhere.Planned(1, {"data": 8.0}, 100.0, seconds={"products": 0.002})
    monkeypatch.setattr(plan_elsewhere, "planned", lambda *given: found)
    plan_elsewhere.print_plan(of(8), H100, Options())  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "unknown" in shown
    assert "of jax_cuda12_plugin" in shown
    assert "2.00 ms" in shown
    assert "links at peak" not in shown
    assert "bound by" not in shown


@pytest.mark.parametrize(("rows", "micro"), [(20, 1), (30, 4)])
def test_a_batch_that_cannot_be_cut_is_planned_as_the_largest_that_fits(
    monkeypatch, capsys, rows, micro
):
    eight = SimpleNamespace(pieces=8)

    def planned(experiment, machine, options):
        size = experiment.data.batch_size
        if size % micro:
            raise UserError("micro-batches-uneven", f"a batch of {size} ... {micro}")
        check_divisible(experiment, eight)  # type: ignore[arg-type]
        return plan_elsewhere.Planned(1, {"data": float(size)}, 100.0)

    def sized(size):
        return of(size, micro, size=512)

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(plan_elsewhere, "planned", planned)
    monkeypatch.setattr(plan_elsewhere, "layout_of", lambda *given: eight)
    plan_elsewhere.print_plan(sized(rows), H100, Options(), sized)  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "a step of 96 on h100" in shown
    assert "96 of 512 training examples" in shown
    assert f"own batch of {rows}" in shown
    with raises("shard-impossible" if micro == 1 else "micro-batches-uneven", str(rows)):
        plan_elsewhere.print_plan(sized(rows), H100, Options())  # type: ignore[arg-type]
    monkeypatch.setattr(plan_elsewhere, "largest_batch", lambda *given: 0)
    with raises("shard-impossible" if micro == 1 else "micro-batches-uneven", str(rows)):
        plan_elsewhere.print_plan(sized(rows), H100, Options(), sized)  # type: ignore[arg-type]


def test_a_compiler_that_fails_is_told_apart_from_one_that_lacks_memory(monkeypatch):
    class Program:
        words = ""

        @property
        def compiled(self):
            raise jax.errors.JaxRuntimeError(self.words)

    state = SimpleNamespace(variables={"params": {}}, opt_state={}, ema={})
    compiled = SimpleNamespace(shapes=lambda: state, step=lambda *_: Program())
    monkeypatch.setattr(plan_elsewhere, "Compiled", SimpleNamespace(alone=lambda *_: compiled))
    for name in ("check", "layout_of", "_batches"):
        monkeypatch.setattr(plan_elsewhere, name, lambda *_, **__: None)
    Program.words = "INTERNAL: Couldn't find output tile sizes\nfor a dot"
    with raises("compiler-fails", "h100", "output tile sizes for a dot", "multiples of 8"):
        plan_elsewhere.planned(SimpleNamespace(steps=9), H100)  # type: ignore[arg-type]
    Program.words = "RESOURCE_EXHAUSTED: Used 90.00G of 75.00G"
    found = plan_elsewhere.planned(SimpleNamespace(steps=9), H100)  # type: ignore[arg-type]
    assert not found.fits
    assert found.bytes_of["activations and temporaries"] == 90 * 2**30

    def step(*_):
        raise RuntimeError("Unknown backend: 'gpu' requested, but no platforms are present")

    compiled.step = step
    with raises("compiler-fails", "calls Python", "GPU"):
        plan_elsewhere.planned(SimpleNamespace(steps=9), H100)  # type: ignore[arg-type]
