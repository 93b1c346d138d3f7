"""Remaining life of turbofan engines from their sensors: predictive maintenance.

Data: cmapss (FD001: 80 engines train, 20 validate, 100 official test engines, each judged once, at its last
cycle; life capped at 125). Reference: RMSE 12.6 and NASA score 274 by a CNN (Li et al. 2018).
"""

import dataclasses
from typing import Any, Literal

import flax.linen as nn
import numpy as np

import dl
from dl.data.batches import windows
from dl.data.batches.series_windows import life_windows
from dl.data.transforms import images as augment
from dl.figures import pictures
from dl.models.regressors import ConvRegressor, LSTMRegressor
from dl.scores.regression import rmse
from dl.tasks.regression import nasa_score, regression


@dataclasses.dataclass(frozen=True)
class Config(dl.Members, dl.Recipe):
    window: int = 30
    """cycles that a prediction sees"""
    cap: float = 125.0
    """largest life that a label says (Heimes 2008)"""
    smoothing: float = 0.9
    """decay of the running averages that stand beside the sensors; 0 leaves them out"""
    model: Literal["cnn", "mixed", "lstm"] = "mixed"
    """cnn: filters over one sensor each; mixed: over all sensors"""
    epochs: int = 20
    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dropout: float = 0.5
    noise: float = 0.0
    """standard deviation of noise on every training value"""
    offset: float = 0.0
    """standard deviation of one offset a sensor and training window, as engines differ"""
    ema: float | None = 0.99
    refit: bool = False
    """once all is chosen: train on the validation engines too, and take the last state"""


@dl.prepared
def engines(config: Config):
    """{set: windows}, sensors scaled by operating condition."""
    splits = dl.load("cmapss", validation=0 if config.refit else None)
    return life_windows(splits, config.window, config.cap, config.smoothing)


def build(config: Config) -> dl.Experiment:
    parts = dict(engines(config))
    train = parts.pop("train")
    sets = {name: windows.eval_windows(**part, batch_size=512) for name, part in parts.items()}
    model = {
        "cnn": ConvRegressor(dropout=config.dropout),
        "mixed": ConvRegressor((32,) * 3, 5, 64, config.dropout, mixed=True, activation=nn.relu),
        "lstm": LSTMRegressor(dropout=config.dropout),
    }[config.model]
    life = train["labels"]["rul"]
    centre, spread = (float(moment(life, dtype=np.float64)) for moment in (np.mean, np.std))
    named: Any = {"inputs": "window", "target": "rul", "scores": {"nasa": nasa_score}}
    task = regression(model, **named, centre=centre, spread=spread)

    def measure(predictor, columns, name):
        """RMSE, and the NASA score summed over engines, of predictions held to 0 ... cap."""
        found = np.clip(predictor(columns).astype(np.float64), 0, config.cap)
        truth = columns["rul"]
        scores = {"rmse": rmse(found, truth)}
        if name != "validation":
            scores["nasa_sum"] = float(np.sum(nasa_score(found, truth)))
        return scores

    def views(predictor):
        """Truth and prediction over the lives of six held-out engines."""
        truth, found = parts["validation"]["labels"], predictor(sets["validation"])
        curves = {"truth": truth["rul"], "prediction": found}
        return {"engines": pictures.lines_by(truth["unit"], curves, "engine")}

    return config.experiment(
        dl.ensemble(task, config.members),
        windows.train_windows(**train, batch_size=config.batch_size, seed=config.seed),
        augment=(augment.jitter(config.noise, config.offset),),
        **dl.held_out(sets),
        select=None if config.refit else "-validation/rmse",
        measure=measure,
        views=None if config.refit else views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
