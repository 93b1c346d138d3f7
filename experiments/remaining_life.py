"""Remaining life of turbofan engines from their sensors: predictive maintenance.

Data: cmapss (FD001: 80 engines train, 20 validate, 100 official test engines, each judged once, at its last
cycle; life capped at 125). Reference: RMSE 12.6 and NASA score 274 by a CNN (Li et al. 2018).
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import dl
from dl.core.errors import bounded
from dl.data import load
from dl.data.batches import windows
from dl.data.batches.windows import Field
from dl.data.sets import series
from dl.data.transforms import images as augment
from dl.figures import pictures
from dl.models.regressors import ConvRegressor, LSTMRegressor
from dl.tasks.regression import nasa_score, regression
from dl.training.prediction import predict_all


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
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
    members: int = 1
    """networks whose predictions are averaged"""
    refit: bool = False
    """once all is chosen: train on the validation engines too, and take the last state"""


@functools.cache
def prepare(data_dir, window, cap, smoothing, refit):
    """{set: (sequences, starts, labels)}, sensors scaled by operating condition."""
    splits = load("cmapss", data_dir, validation=0 if refit else None)
    moving = splits.train["sensors"].std(0) > 1e-6 * np.abs(splits.train["sensors"]).mean(0)
    splits, *_ = series.standardize(splits, "sensors", by="condition")

    def cut(name, **options):
        columns = getattr(splits, name)
        sensors, unit = columns["sensors"][:, moving], columns["unit"]
        if smoothing:
            running = series.smoothed(sensors, unit, smoothing)
            sensors = np.concatenate([sensors, running], axis=1)
        return windows.unit_windows(dict(columns, sensors=sensors), window, **options)

    return {
        "train": cut("train", cap=cap),
        **({} if refit else {"validation": cut("validation", cap=cap)}),
        "test": cut("test", cap=cap, last_only=True),
        "test_uncapped": cut("test", last_only=True),
    }


def build(config: Config) -> dl.Experiment:
    bounded("--cap", config.cap, above=0)
    parts = prepare(config.data_dir, config.window, config.cap, config.smoothing, config.refit)
    fields = (Field("window", "sensors", 0, config.window),)
    arrays, starts, labels = parts["train"]
    train = windows.train_windows(
        arrays, fields, config.batch_size, config.seed, starts=starts, labels=labels
    )
    sets = {
        name: windows.eval_windows(arrays, fields, 512, starts=starts, labels=labels)
        for name, (arrays, starts, labels) in parts.items()
        if name != "train"
    }
    model = {
        "cnn": lambda: ConvRegressor(dropout=config.dropout),
        "mixed": lambda: ConvRegressor(
            (32, 32, 32), 5, 64, config.dropout, mixed=True, activation=jax.nn.relu
        ),
        "lstm": lambda: LSTMRegressor(dropout=config.dropout),
    }[config.model]()
    task = regression(
        model,
        inputs="window",
        target="rul",
        centre=float(labels["rul"].mean(dtype=np.float64)),
        spread=float(labels["rul"].std(dtype=np.float64)),
        scores={"nasa": nasa_score},
    )
    if config.members != 1:
        task = dl.ensemble(task, config.members)
    predict = jax.jit(task.predict)

    def said(variables, name):
        return predict_all(predict, variables, sets[name], "window")

    def measure(variables, name):
        """RMSE, and the NASA score summed over engines, of predictions held to 0 ... cap."""
        found = np.clip(said(variables, name).astype(np.float64), 0, config.cap)
        truth = parts[name][2]["rul"]
        scores = {"rmse": float(np.sqrt(np.mean((found - truth) ** 2)))}
        if name != "validation":
            scores["nasa_sum"] = float(np.sum(nasa_score(found, truth)))
        return scores

    def views(variables):
        """Truth and prediction over the lives of six held-out engines."""
        if config.refit:
            return {}
        truth, found = parts["validation"][2], said(variables, "validation")
        panels = {
            f"engine {unit}": {
                "truth": truth["rul"][truth["unit"] == unit],
                "prediction": found[truth["unit"] == unit],
            }
            for unit in np.unique(truth["unit"])[:6]
        }
        return {"engines": pictures.lines(panels)}

    return config.experiment(
        task,
        train,
        augment=(augment.jitter(config.noise, config.offset),),
        epochs=config.epochs,
        evals={} if config.refit else {"validation": sets["validation"]},
        tests={name: sets[name] for name in ("test", "test_uncapped")},
        select=None if config.refit else "-validation/rmse",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
