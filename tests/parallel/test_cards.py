"""Machines that are not here, by name."""

import pytest
from mistakes import raises

from dl.parallel.devices import CARDS, Machine, card_of, machine


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla T4", "t4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("TPU v5e", "v5e"),
        ("TPU v5p", "v5p"),
        ("TPU v6e", "v6e"),
    ],
)
def test_a_device_is_known_by_its_kind(kind, name):
    assert card_of(kind) is CARDS[name]
    assert card_of("a card of tomorrow") is None


def test_half_precision_is_never_slower_but_on_a_card_without_it():
    for name, card in CARDS.items():
        assert card.peaks["bfloat16"] >= card.peaks["float32"]
        assert (card.platform == "gpu") == bool(card.cores), name


@pytest.mark.parametrize(
    "text",
    [
        *(
            "h100:0",
            "h100:2x4",
            "h100:eight",
            "h100:12",
            "v5e:x",
            "v5p:4x4",
            "v6e:32x16",
            "v5p:6148",
        ),
        *("v5e:3", "v5e:6", "v5e:12", "v5p:6"),  # as many chips of a slice do not fill a box
    ],
)
def test_a_machine_that_cannot_be_is_told(text):
    with raises("device-malformed", text):
        machine(text)


@pytest.mark.parametrize(
    ("name", "sides", "links"),
    [
        ("v5e", (2, 4), 2),  # a corner has one neighbour along each side
        ("v5e", (8, 16), 3),
        ("v6e", (16, 16), 4),
        ("v5p", (2, 2, 1), 2),
        ("v5p", (2, 4, 4), 3),
        ("v5p", (4, 4, 4), 6),
    ],
)
def test_a_chip_sends_by_the_links_that_its_slice_leaves_it(name, sides, links):
    card = CARDS[name]
    ports, both_ways = {"v5e": (4, 400e9), "v5p": (6, 1200e9), "v6e": (4, 800e9)}[name]
    assert Machine(name, card, [], sides).link == links * both_ways / 2 / ports


def test_of_a_gpu_programs_have_what_jax_takes(monkeypatch):
    for variable in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(variable, raising=False)
    assert Machine("h100", CARDS["h100"], []).taken == 0.75
    assert Machine("v5e", CARDS["v5e"], []).taken == 1
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", ".9")
    assert Machine("h100", CARDS["h100"], []).taken == 0.9
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "most")
    with raises("range", "XLA_CLIENT_MEM_FRACTION=most", "0.75"):
        _ = Machine("h100", CARDS["h100"], []).taken


@pytest.mark.parametrize(
    ("name", "usual", "exact"),  # data sheets: TF32 and FP32; bfloat16 in one pass and six
    [("t4", 8.1, 8.1), ("a100", 156, 19.5), ("h100", 494, 67), ("v5e", 197, 197 / 6)],
)
def test_exact_products_take_longer(name, usual, exact):
    peak = CARDS[name].peak
    assert peak("float32") == usual * 1e12
    assert peak("exact float32") == pytest.approx(exact * 1e12, rel=0.01)
    assert peak("exact float32") <= peak("tensorfloat32") <= peak("float32") <= peak("float16")


def test_an_unknown_card_is_answered_with_the_nearest():
    with raises("unknown", "'h10'", "h100"):
        machine("h10")
