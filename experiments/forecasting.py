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
import optax

import dl
from dl.data import load, series, windows
from dl.models import forecasters as models
from dl.report import pictures
from dl.tasks.baselines import fit_linear
from dl.tasks.forecasting import (
    forecasting,
    instance_scale,
    naive_error,
    point_scores,
    seasonal_naive,
)
from dl.tasks.supervised import absolute, squared
from dl.training.predictions import column, predict_all

PERIOD = 24  # hours


@dataclasses.dataclass(frozen=True)
class Config:
    data: Literal["ett", "m4_hourly"] = "ett"
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    horizon: int = 96
    """hours to forecast; 48 for m4_hourly"""
    look_back: int = 336
    """hours that a forecast sees"""
    model: Literal["rlinear", "nlinear", "dlinear", "sparse", "lstm", "tcn", "patchtst"] = "rlinear"
    quantiles: tuple[float, ...] = ()
    """levels to forecast, such as 0.1 0.5 0.9; by default a point"""
    error: Literal["squared", "absolute"] = "squared"
    """what a point forecast descends"""
    seed: int = 0
    """of initialisation, data order and dropout"""
    epochs: int = 10
    steps: int | None = None
    """instead of epochs; m4_hourly has 230,000 windows"""
    batch_size: int = 32
    learning_rate: float = 5e-3
    schedule: Literal["halving", "cosine"] = "halving"
    """halving: the rate of each epoch is half the one before, as published for ETT"""
    weight_decay: float = 0.0
    dropout: float = 0.2
    """of lstm, tcn and patchtst"""
    width: int = 64
    """of lstm and tcn, and half of patchtst's"""
    ema: float | None = None
    """decay of the averaged parameters that are evaluated"""
    patience: int | None = None
    """stop after this many evaluations without a better validation error"""


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
def known(data, data_dir, look_back, horizon):
    """{set: past, future, and the forecasts of rivals}: seasonal naive, and linear in closed form."""
    train, sets = windows_of(data, data_dir, look_back, horizon, 1, 0)
    ordered = windows.eval_windows(
        train.arrays, train.fields, 4096, starts=train.starts, labels=train.labels
    )
    batches = (jax.device_get(ordered[index]) for index in range(len(ordered)))
    pairs = ((batch["past"], batch["future"]) for batch in batches)
    linear = fit_linear(pairs, relative=data == "m4_hourly")
    found = {}
    for name, batches in sets.items():
        past = column(batches, "past")
        naive = np.asarray(seasonal_naive(past, horizon, PERIOD, axis=1))
        found[name] = past, column(batches, "future"), {"naive": naive, "linear": linear(past)}
    return found


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
    key = (config.data, config.data_dir, config.look_back, config.horizon)
    train, sets = windows_of(*key, config.batch_size, config.seed)
    panel = config.data == "m4_hourly"
    steps = config.steps or max(1, config.epochs * train.size // config.batch_size)
    task = forecasting(
        network(config, config.horizon * max(1, len(config.quantiles))),
        error=squared if config.error == "squared" else absolute,
        quantiles=config.quantiles,
        scale=instance_scale if panel else None,
    )
    rate = dl.schedule("cosine", config.learning_rate, steps, warmup=steps // 20)
    if config.schedule == "halving":
        epoch = train.size // config.batch_size
        rate = optax.exponential_decay(config.learning_rate, epoch, 0.5, staircase=True)
    predict = jax.jit(task.predict)

    def point(variables, name):
        forecast = predict_all(predict, variables, sets[name], "past")
        return forecast[..., len(config.quantiles) // 2] if config.quantiles else forecast

    def measure(variables, name):
        _, truth, others = known(*key)[name]
        naive = naive_errors(config.data_dir, name) if panel else None
        found = point_scores(point(variables, name), truth, naive) if panel else {}
        for rival, forecast in others.items():
            scores = point_scores(forecast, truth, naive)
            found |= {f"{rival}_{metric}": value for metric, value in scores.items()}
        return found

    def views(variables):
        past, truth, others = known(*key)["validation"]
        rows = np.linspace(0, len(past) - 1, 4).astype(int)
        forecast = np.asarray(predict(variables, past[rows]))
        drawn = [past[rows], truth[rows], forecast, others["naive"][rows]]
        if not panel:  # of several variables the last, ETT's oil temperature
            drawn = [values[:, :, -1] for values in drawn]
        return {"forecast": pictures.forecasts(*drawn)}

    return dl.Experiment(
        task=task,
        data=train,
        optimizer=dl.optimizer("adamw", rate, weight_decay=config.weight_decay, clip=1.0),
        steps=steps,
        seed=config.seed,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select="-validation/mase" if panel else "-validation/mse",
        patience=config.patience,
        ema=config.ema,
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
