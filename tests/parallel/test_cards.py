"""Machines that are not here, by name."""

import pytest
from mistakes import raises

from dl.parallel.devices import CARDS, card_of, machine


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("Tesla T4", "t4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
    ],
)
def test_a_device_is_known_by_its_kind(kind, name):
    assert card_of(kind) is CARDS[name]
    assert card_of("a card of tomorrow") is None


def test_half_precision_is_never_slower_but_on_a_card_without_it():
    for name, card in CARDS.items():
        assert card.peaks["bfloat16"] >= card.peaks["float32"]
        assert (card.platform == "gpu") == bool(card.cores), name


@pytest.mark.parametrize("text", ["h100:0", "h100:2x4", "h100:eight", "h100:12", "v5e:x"])
def test_a_machine_that_cannot_be_is_told(text):
    with raises("device-malformed", text):
        machine(text)


def test_an_unknown_card_is_answered_with_the_nearest():
    with raises("unknown", "'h10'", "h100"):
        machine("h10")
