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
    mase,
    seasonal_naive,
    smape,
)
from dl.tasks.supervised import absolute, squared
from dl.training.predictions import predict_all

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
def prepare(data, data_dir, look_back, horizon):
    """(splits, training windows in order, {set: evaluation windows})."""
    splits = load(data, data_dir)
    if data == "ett":
        splits, *_ = series.standardize(splits)
    cut = windows.forecasting if data == "ett" else windows.panel_forecasting
    train, held, test = cut(splits, look_back, horizon, 1, eval_batch_size=512)
    ordered = windows.eval_windows(
        train.arrays, train.fields, 4096, starts=train.starts, labels=train.labels
    )
    return splits, ordered, {"validation": held, "test": test}


@functools.cache
def baselines(data, data_dir, look_back, horizon):
    """{set: {name: forecasts}} of the seasonal naive forecast and of the linear one in closed form."""
    _, ordered, sets = prepare(data, data_dir, look_back, horizon)
    pairs = (ordered[index] for index in range(len(ordered)))
    pairs = ((np.asarray(batch["past"]), np.asarray(batch["future"])) for batch in pairs)
    linear = fit_linear(pairs, relative=data == "m4_hourly")
    found = {}
    for name, batches in sets.items():
        past = predict_all(lambda _, x: x, None, batches, "past")
        naive = np.asarray(seasonal_naive(np.moveaxis(past, 1, -1), horizon, PERIOD))
        found[name] = {"naive": np.moveaxis(naive, -1, 1), "linear": linear(past)}
    return found


@functools.cache
def truths(data, data_dir, look_back, horizon):
    sets = prepare(data, data_dir, look_back, horizon)[2]
    return {n: predict_all(lambda _, x: x, None, b, "future") for n, b in sets.items()}


@functools.cache
def naive_errors(data_dir):
    """{set: error of the seasonal naive forecast within each series' past}, for MASE."""
    splits = load("m4_hourly", data_dir)
    known = [row[:n] for row, n in zip(splits.train["values"], splits.train["length"], strict=True)]
    whole = [np.concatenate(both) for both in zip(known, splits.validation["values"], strict=True)]

    def errors(each):
        return np.array([np.abs(row[PERIOD:] - row[:-PERIOD]).mean() for row in each])

    return {"validation": errors(known), "test": errors(whole)}


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
    _, ordered, sets = prepare(*key)
    panel = config.data == "m4_hourly"
    train = windows.train_windows(
        ordered.arrays,
        ordered.fields,
        config.batch_size,
        config.seed,
        starts=ordered.starts,
        labels=ordered.labels,
    )
    steps = config.steps or max(1, config.epochs * train.size // config.batch_size)
    task = forecasting(
        network(config, config.horizon * max(1, len(config.quantiles))),
        error={"squared": squared, "absolute": absolute}[config.error],
        quantiles=config.quantiles,
        scale=instance_scale if panel else None,
    )
    epoch = train.size // config.batch_size
    rate = {
        "halving": lambda: optax.exponential_decay(
            config.learning_rate, epoch, 0.5, staircase=True
        ),
        "cosine": lambda: dl.schedule("cosine", config.learning_rate, steps, warmup=steps // 20),
    }[config.schedule]()
    predict = jax.jit(task.predict)

    def scores(forecast, name):
        truth = truths(*key)[name]
        if panel:
            errors = mase(forecast, truth, naive_errors(config.data_dir)[name])
            return {"smape": float(smape(forecast, truth).mean()), "mase": float(errors.mean())}
        gap = (forecast - truth).astype(np.float64)
        return {"mse": float(np.mean(gap**2)), "mae": float(np.abs(gap).mean())}

    def point(variables, name):
        forecast = predict_all(predict, variables, sets[name], "past")
        return forecast[..., len(config.quantiles) // 2] if config.quantiles else forecast

    def measure(variables, name):
        found = scores(point(variables, name), name) if panel else {}
        for rival, forecast in baselines(*key)[name].items():
            found |= {f"{rival}_{m}": value for m, value in scores(forecast, name).items()}
        return found

    def views(variables):
        held, rows = sets["validation"], np.linspace(0, sets["validation"].size - 1, 4).astype(int)
        batch = windows._gather(held, rows)
        last = () if panel else (-1,)  # of several variables the last, ETT's oil temperature
        past, future = (np.asarray(batch[n])[(..., *last)] for n in ("past", "future"))
        forecast = np.asarray(predict(variables, batch["past"]))
        if last:
            forecast = forecast[:, :, -1]
        naive = baselines(*key)["validation"]["naive"][rows][(..., *last)]
        return {"forecast": pictures.forecasts(past, future, forecast, baseline=naive)}

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
