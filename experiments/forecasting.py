"""Forecasting: electricity transformers or the M4 competition's hourly series, beside simple baselines.

Data: ett (ETTh1, look-back 336, standardised, every window counts), m4_hourly (one forecast of 48 hours a
series). Reference: ETTh1 MSE of horizons 96/192/336/720: NLinear .374/.408/.429/.440, DLinear
.375/.405/.439/.472 (Zeng et al. 2023), PatchTST .370/.413/.422/.447 (Nie et al. 2023).
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import dl
from dl.baselines.linear_forecast import compared
from dl.data import load
from dl.data.batches import windows
from dl.data.sets import series
from dl.figures import pictures
from dl.models import forecasters as models
from dl.scores.forecasting import naive_error, point_scores
from dl.tasks.forecasting import forecasting, instance_scale
from dl.tasks.supervised import absolute, squared
from dl.training.prediction import predict_all

PERIOD = 24  # hours


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: Literal["ett", "m4_hourly"] = "ett"
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    horizon: int | None = None
    """hours to forecast; None is 96 for ett and 48, all that is known, for m4_hourly"""
    look_back: int = 336
    """hours that a forecast sees"""
    model: Literal["rlinear", "nlinear", "dlinear", "sparse", "lstm", "tcn", "patchtst"] = "rlinear"
    quantiles: tuple[float, ...] = ()
    """levels to forecast, ascending and between 0 and 1, such as 0.1 0.5 0.9; by default a point"""
    error: Literal["squared", "absolute"] = "squared"
    """what a point forecast descends"""
    epochs: int = 10
    steps: int | None = None
    """instead of epochs; m4_hourly has 230,000 windows"""
    batch_size: int = 32
    learning_rate: float = 5e-3
    schedule: dl.ScheduleName = "exponential"
    """with the three below: halved every epoch of ten, much as published for ETT"""
    final_rate: float = 1e-3
    warmup_percent: int = 0
    clip: float | None = None
    dropout: float = 0.2
    """of lstm, tcn and patchtst"""
    width: int = 64
    """of lstm and tcn, and half of patchtst's"""


@functools.cache
def prepare(data, data_dir):
    splits = load(data, data_dir)
    return series.standardize(splits)[0] if data == "ett" else splits


def windows_of(data, data_dir, look_back, horizon, batch_size, seed):
    """Training windows, and {set: evaluation windows}."""
    cut = windows.forecasting if data == "ett" else windows.panel_forecasting
    options = {"eval_batch_size": 512, "seed": seed}
    train, held, test = cut(prepare(data, data_dir), look_back, horizon, batch_size, **options)
    return train, {"validation": held, "test": test}


@functools.cache
def rivals(data, data_dir, look_back, horizon):
    """{set: past, future, and what simple rivals forecast}."""
    train, sets = windows_of(data, data_dir, look_back, horizon, 1, 0)
    return compared(train.ordered(4096), sets, PERIOD, relative=data == "m4_hourly")


@functools.cache
def naive_errors(data_dir, name):
    """In-sample error of the seasonal naive forecast of each series, for MASE: ``[series]``."""
    hours = 0 if name == "test" else None  # what is known by then
    part = load("m4_hourly", data_dir, validation=hours).train
    return naive_error(part["values"], PERIOD, part["length"])


def network(config: Config, horizon: int):
    wide, drop = config.width, config.dropout
    return {
        "rlinear": lambda: models.RevIN(models.TimeLinear(horizon)),
        "nlinear": lambda: models.NLinear(horizon),
        "dlinear": lambda: models.DLinear(horizon),
        "sparse": lambda: models.SparseLinear(horizon, PERIOD),
        "lstm": lambda: models.LSTMForecaster(horizon, wide, dropout=drop),
        "tcn": lambda: models.TCN(horizon, (wide,) * 6, dropout=drop),
        "patchtst": lambda: models.RevIN(models.PatchTST(horizon, width=wide // 2, dropout=drop)),
    }[config.model]()


def build(config: Config) -> dl.Experiment:
    panel = config.data == "m4_hourly"
    horizon = config.horizon if config.horizon is not None else 48 if panel else 96
    key = (config.data, config.data_dir, config.look_back, horizon)
    train, sets = windows_of(*key, config.batch_size, config.seed)
    task = forecasting(
        network(config, horizon * max(1, len(config.quantiles))),
        error=squared if config.error == "squared" else absolute,
        quantiles=config.quantiles,
        scale=instance_scale if panel else None,
    )
    predict = jax.jit(task.predict)

    def said(variables, name):
        """Forecasts of a set in the units of its series, with their quantiles on the last axis."""
        forecast, level = predict_all(predict, variables, sets[name], "past"), sets[name].level
        return forecast.astype(np.float64) + (level[..., None] if config.quantiles else level)

    def point(variables, name):
        forecast = said(variables, name)
        return forecast[..., len(config.quantiles) // 2] if config.quantiles else forecast

    def measure(variables, name):
        _, truth, others = rivals(*key)[name]
        naive = naive_errors(config.data_dir, name) if panel else None
        forecasts = {f"{rival}_": forecast for rival, forecast in others.items()}
        if panel:
            forecasts[""] = point(variables, name)
        return {
            f"{prefix}{metric}": value
            for prefix, forecast in forecasts.items()
            for metric, value in point_scores(forecast, truth, naive).items()
        }

    def views(variables):
        past, truth, others = rivals(*key)["validation"]
        rows = np.linspace(0, len(past) - 1, 4).astype(int)
        forecast = said(variables, "validation")
        drawn = [values[rows] for values in (past, truth, forecast, others["naive"])]
        if not panel:  # of several variables the last, ETT's oil temperature
            drawn = [values[:, :, -1] for values in drawn]
        return {"forecast": pictures.forecasts(*drawn)}

    return config.experiment(
        task,
        train,
        steps=config.steps,
        epochs=None if config.steps else config.epochs,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select="-validation/mase" if panel else "-validation/mse",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
