"""Back-tests by hand, with costs and a delay, and no look ahead."""

import numpy as np
import pytest
from mistakes import raises

from dl.baselines.trading import trading_rivals
from dl.data.splits import Info, Splits
from dl.scores.backtest import (
    accuracy,
    back_test,
    belief,
    by_days,
    correlation,
    earned,
    net_returns,
    positions,
    signal_scores,
)

# Two shares on three days: the day, the share, the signal and the move.
DAY = np.array([5, 5, 6, 6, 7, 7])
SHARE = np.array([0, 1, 0, 1, 0, 1])
SIGNAL = np.array([2.0, -1.0, 3.0, 0.5, -1.0, 0.0])
MOVE = np.array([0.10, 0.02, -0.04, 0.06, 0.05, 0.5])


def test_positions_are_one_together():
    np.testing.assert_array_equal(
        positions(SIGNAL, DAY, SHARE), [[0.5, -0.5], [0.5, 0.5], [-1.0, 0.0]]
    )


def test_a_back_test_by_hand():
    found = back_test(SIGNAL, MOVE, DAY, SHARE, cost=0.0, delay=0)
    net = [0.5 * 0.10 - 0.5 * 0.02, 0.5 * -0.04 + 0.5 * 0.06, -0.05]
    assert found["return"] == pytest.approx(np.prod(1 + np.array(net)) - 1)
    assert found["drawdown"] == pytest.approx(0.05)
    assert found["turnover"] == pytest.approx((1 + 2) / 2)
    assert found["sharpe"] == pytest.approx(np.mean(net) / np.std(net) * 252**0.5)


def test_costs_are_of_what_is_dealt_and_a_delay_brings_the_next_move():
    held, moves = positions(SIGNAL, DAY, SHARE), MOVE.reshape(3, 2)
    plain = net_returns(held, moves, cost=0.0, delay=0)
    # In for 1, sold 1 of the second share, then 2, and out of 1 at the end.
    dear = net_returns(held, moves, cost=0.01, delay=0)
    np.testing.assert_allclose(plain - dear, [0.01, 0.01, 0.02 + 0.01])
    late = net_returns(held, moves, cost=0.0, delay=1)
    np.testing.assert_allclose(late, [0, 0.5 * -0.04 - 0.5 * 0.06, 0.5 * 0.05 + 0.5 * 0.5])
    assert not net_returns(held, moves, cost=0.0, delay=3).any()


def test_what_is_to_come_changes_no_return_before_it():
    draw = np.random.default_rng(0)
    signal, moves = draw.normal(size=(20, 3)), draw.normal(0, 0.02, (20, 3))
    for delay in (0, 1, 2):
        one = net_returns(np.sign(signal) / 3, moves, cost=0.001, delay=delay)
        later_signal, later_moves = signal.copy(), moves.copy()
        later_signal[12:] *= -1
        later_moves[12:] = 9
        other = net_returns(np.sign(later_signal) / 3, later_moves, cost=0.001, delay=delay)
        np.testing.assert_array_equal(one[:12], other[:12])
        if delay:  # and a signal of today earns nothing today
            other = net_returns(np.sign(later_signal) / 3, moves, cost=0.0, delay=delay)
            one = net_returns(np.sign(signal) / 3, moves, cost=0.0, delay=delay)
            np.testing.assert_array_equal(one[: 12 + delay], other[: 12 + delay])


def test_a_signal_that_knows_the_move_gains_only_without_a_delay():
    """Were a delayed back-test to look ahead, foreknowledge of the next day alone would still pay."""
    draw = np.random.default_rng(1)
    move = draw.choice([-0.01, 0.01], 4000)
    day, share = np.arange(4000) // 4, np.arange(4000) % 4
    now, late = (earned_of(move, day, share, delay) for delay in (0, 1))
    assert now == pytest.approx(0.01)
    assert abs(late) < 0.001


def earned_of(move, day, share, delay):
    held, moves = positions(move, day, share), move.reshape(-1, 4)
    return net_returns(held, moves, cost=0.0, delay=delay).mean()


def test_wrong_settings_are_refused():
    held, moves = positions(SIGNAL, DAY, SHARE), MOVE.reshape(3, 2)
    with raises("range", "cost"):
        net_returns(held, moves, cost=-0.1)
    with raises("range", "delay"):
        net_returns(held, moves, delay=-1)


def part(seed, days=40, shares=5):
    draw = np.random.default_rng(seed)
    size = days * shares
    return {
        "window": draw.normal(size=(size, 3, 22)).astype(np.float32),
        "move": draw.normal(0, 0.01, size).astype(np.float32),
        "day": np.repeat(np.arange(days), shares).astype(np.int32),
        "share": np.tile(np.arange(shares), days).astype(np.int32),
        "label": draw.integers(0, 2, size).astype(np.int32),
        "weight": (draw.random(size) < 0.8).astype(np.float32),
    }


def test_scores_are_scikit_learns_and_intervals_are_of_days():
    from sklearn.metrics import accuracy_score, matthews_corrcoef

    own = part(0)
    signal = np.random.default_rng(2).normal(size=200) + own["label"]
    found, counted = signal_scores(own, signal), own["weight"] > 0
    told = own["label"][counted], signal[counted] > 0
    assert found["accuracy"] == pytest.approx(accuracy_score(*told))
    assert found["mcc"] == pytest.approx(matthews_corrcoef(*told))
    assert found["accuracy_low"] < found["accuracy"] < found["accuracy_high"]
    assert correlation(np.array([3, 1, 0, 0])) == 0.0
    # Cases of a day that are all alike leave as much to chance as one a day.
    alone = np.random.default_rng(3).random(40) < 0.5
    cells = np.stack([alone, ~alone, 0 * alone, 0 * alone], 1).astype(float)
    wide = by_days(np.repeat(np.arange(40), 50), np.repeat(cells, 50, 0), accuracy)
    assert wide == by_days(np.arange(40), cells, accuracy)


def test_the_sentence_says_what_may_be_believed():
    weak = {"accuracy": 0.54, "accuracy_low": 0.49, "accuracy_high": 0.6, "mcc_low": -0.02}
    said = belief(weak | {"return": -0.03}, 0.05, 64)
    assert "cannot be told from chance" in said
    assert "-3.0%" in said
    assert "+5.0%" in said
    assert "64 days" in said
    strong = weak | {"accuracy_low": 0.51, "mcc_low": 0.01, "return": 0.1}
    assert "no promise" in belief(strong, 0.05, 64)
    assert earned(np.zeros(3)) == {"return": 0.0, "sharpe": 0.0, "drawdown": 0.0}


def test_rivals_are_holding_a_coin_and_others():
    splits = Splits(part(0), part(1), part(2), Info("made", *5 * [""]))
    found = trading_rivals(splits, cost=0.001, delay=1)
    assert set(found) == {"buy and hold", "coin", "last move", "linear"}
    test = splits.test
    moves = test["move"].astype(np.float64).reshape(40, 5)
    daily = moves.mean(1)
    daily[0] = 0.0  # the order comes a day late
    daily[[1, -1]] -= 0.001  # dealt in at its first close, out at the last
    assert found["buy and hold"]["test/return"] == pytest.approx(np.prod(1 + daily) - 1, rel=1e-6)
    assert found["coin"]["test/accuracy"] == pytest.approx(0.5, abs=0.01)
    assert found["coin"]["test/return_low"] < found["coin"]["test/return"]
