"""Does a share rise or fall tomorrow? Signals of prices alone, judged as papers do and by a back-test with costs.

An attentive LSTM or an MLP over the last days of a share and of the market. Data: stocknet_prices (official dates;
accuracies of .52 to .57, as papers have them, are near chance, for shares of a day move together), or --data FILE
of your own prices, a row a share and day. Beside: buy and hold, a coin, the last move, a linear model.
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import numpy as np

import dl
from dl.baselines.trading import always, trading_rivals
from dl.data import markets
from dl.data.own.prices import OwnPrices
from dl.models.markets import AttentiveLSTM
from dl.models.mlp import MLP
from dl.scores.backtest import back_test, belief, signal_scores
from dl.tasks.tabular import tabular_classification


@dataclasses.dataclass(frozen=True)
class Config(OwnPrices, dl.Members, dl.Recipe):
    data: str = "stocknet_prices"
    """stocknet_prices, or a csv, Parquet or Arrow file of your own: share, day, close, ..."""
    model: Literal["lstm", "mlp"] = "lstm"
    look_back: int = 10
    """days that a signal sees, each told by the 30 before it"""
    band: tuple[float, float] = (-0.005, 0.0055)
    """moves between these are neither a fall nor a rise: traded, but not trained on or counted as right"""
    cost: float = 0.001
    """of what is bought or sold, in the back-test"""
    delay: int = 1
    """days from a signal to its order; papers mostly assume 0, the very close that the signal is computed from"""
    width: int = 16
    dropout: float = 0.3
    epochs: int = 10
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2


@dl.prepared
def cases_of(config: Config):
    splits = dl.data.open(config.data, "prices", config)
    return markets.cases(splits, config.look_back, config.band)


def build(config: Config) -> dl.Experiment:
    splits, rates = cases_of(config), (config.dropout, config.dropout)
    dealt: Any = {"cost": config.cost, "delay": config.delay}
    model = {
        "lstm": AttentiveLSTM(2, config.width, config.dropout),
        "mlp": MLP((config.width, 2), nn.relu, *rates),
    }[config.model]
    task = tabular_classification(model, columns=("window",))

    def traded(part, signal):
        return back_test(signal, part["move"], part["day"], part["share"], **dealt)

    def measure(predictor, columns, name):
        logits = predictor(columns).astype(np.float64)
        signal = logits[:, 1] - logits[:, 0]
        return {**signal_scores(columns, signal), **traded(columns, signal)}

    def views(predictor):
        held = splits.validation
        kept = traded(held, always(held))["return"]
        found, days = measure(predictor, held, "validation"), len(np.unique(held["day"]))
        return {"belief": f"Validation days. {belief(found, kept, days)}"}

    return config.experiment(
        dl.ensemble(task, config.members),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 2048),
        select="-validation/loss",
        classes=splits.info.classes,
        names={"window": markets.FEATURES},
        measure=measure,
        views=views,
        baselines=lambda: trading_rivals(splits, **dealt),
    )


if __name__ == "__main__":
    dl.main(Config, build)
