"""Plans of machines that are not here, without their compilers."""

from types import SimpleNamespace

import pytest
from mistakes import raises

from dl.parallel.devices import CARDS, Machine
from dl.runs.options import Options
from dl.training import plan_elsewhere
from dl.training.prefetch import check_divisible

H100 = Machine("h100", CARDS["h100"], [])


def of(rows, micro=1):
    return SimpleNamespace(data=SimpleNamespace(batch_size=rows), micro_batches=micro)


@pytest.mark.parametrize(("micro", "limit", "least"), [(1, 100, 88), (4, 100, 88), (4, 3, 0)])
def test_the_largest_batch_is_found_among_those_that_can_be_cut(monkeypatch, micro, limit, least):
    def planned(experiment, machine, options):
        rows = experiment.data.batch_size
        assert rows % micro == 0
        return SimpleNamespace(fits=rows <= limit)

    monkeypatch.setattr(plan_elsewhere, "planned", planned)
    found = plan_elsewhere.largest_batch(lambda n: of(n, micro), H100, Options(), 16)
    assert least <= found <= limit


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
