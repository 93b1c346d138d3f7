"""Forecasting: electricity transformers or the M4 competition's hourly series, beside simple baselines.

Data: ett (ETTh1, look-back 336, standardised, every window counts), m4_hourly (one forecast of 48 hours a
series). Reference: ETTh1 MSE of horizons 96/192/336/720: NLinear .374/.408/.429/.440, DLinear
.375/.405/.439/.472 (Zeng et al. 2023), PatchTST .370/.413/.422/.447 (Nie et al. 2023).
"""

import dataclasses
from typing import Any, Literal

import numpy as np

import dl
from dl.baselines.linear_forecast import compared
from dl.data.batches import windows
from dl.data.sets import series
from dl.figures import pictures
from dl.models.forecasters import forecaster
from dl.scores.forecasting import naive_error
from dl.tasks.forecasting import forecasting, instance_scale
from dl.tasks.supervised import absolute, squared

PERIOD = 24  # hours
ERRORS = {"squared": squared, "absolute": absolute}


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: Literal["ett", "m4_hourly"] = "ett"
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

    @property
    def hours(self) -> int:
        return self.horizon if self.horizon is not None else 96 if self.data == "ett" else 48


def windows_of(config: Config, batch_size: int = 1, seed: Any = 0):
    """Training windows, and {set: evaluation windows}."""
    splits, cut = dl.load(config.data), windows.panel_forecasting
    if config.data == "ett":
        splits, cut = series.standardize(splits)[0], windows.forecasting
    sizes = {"eval_batch_size": 512, "seed": seed}
    train, held, test = cut(splits, config.look_back, config.hours, batch_size, **sizes)
    return train, {"validation": held, "test": test}


@dl.prepared
def rivals(config: Config):
    """{set: past, future, and what simple rivals forecast}."""
    train, sets = windows_of(config)
    if config.data == "ett":
        return compared(train.ordered(4096), sets, PERIOD)
    known = {"validation": dl.load(config.data), "test": dl.load(config.data, validation=0)}
    history = {name: (s.train["values"], PERIOD, s.train["length"]) for name, s in known.items()}
    scale = {name: naive_error(*given) for name, given in history.items()}
    return compared(train.ordered(4096), sets, PERIOD, scale)


def build(config: Config) -> dl.Experiment:
    panel, quantiles = config.data == "m4_hourly", config.quantiles
    train, sets = windows_of(config, config.batch_size, config.seed)
    horizon, design = config.hours * max(1, len(quantiles)), (config.width, config.dropout)
    model = forecaster(config.model, horizon, PERIOD, *design)
    error, scale = ERRORS[config.error], instance_scale if panel else None
    task = forecasting(model, error=error, quantiles=quantiles, scale=scale)

    def said(predictor, rows, name):
        """Forecasts of a set in the units of its series, with their quantiles on the last axis."""
        forecast, level = predictor(rows).astype(np.float64), sets[name].level
        return forecast + (level[..., None] if quantiles else level)

    def measure(predictor, columns, name):
        # The task's own scores are of a long series' windows, but not of each series of a panel.
        return rivals(config)[name].scores(said(predictor, columns, name) if panel else None)

    def views(predictor):
        past, truth, others, _ = rivals(config)["validation"]
        forecast = said(predictor, sets["validation"], "validation")
        rows = np.linspace(0, len(past) - 1, 4).astype(int)
        drawn = [values[rows] for values in (past, truth, forecast, others["naive"])]
        if not panel:  # of several variables the last, ETT's oil temperature
            drawn = [values[:, :, -1] for values in drawn]
        return {"forecast": pictures.forecasts(*drawn)}

    return config.experiment(
        task,
        train,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select="-validation/mase" if panel else "-validation/mse",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
