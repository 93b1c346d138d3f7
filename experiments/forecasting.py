"""Forecasting: electricity transformers, the M4 competition's hourly series, or your own, beside simple baselines.

Data: ett (ETTh1, look-back 336, standardised, every window counts), m4_hourly (one forecast of 48 hours a
series), or --data FILE: one or many series with gaps, standardised each. Reference: ETTh1 MSE of horizons
96/192/336/720: NLinear .374/.408/.429/.440, DLinear .375/.405/.439/.472 (Zeng et al. 2023), PatchTST
.370/.413/.422/.447 (Nie et al. 2023).
"""

import dataclasses
from typing import Literal

import numpy as np

import dl
from dl.baselines.linear_forecast import rival_scores, series_rivals
from dl.data.batches.series_windows import forecasting_windows
from dl.data.own.series import OwnSeries
from dl.data.sets.series import scaled_series
from dl.figures import pictures
from dl.models.forecasters import ForecasterName, forecaster
from dl.tasks import supervised
from dl.tasks.forecasting import forecasting, instance_scale


@dataclasses.dataclass(frozen=True)
class Config(OwnSeries, dl.Recipe):
    data: str = "ett"
    """ett, m4_hourly, or a csv, Parquet or Arrow file of your own with times and numbers"""
    model: ForecasterName = "rlinear"
    quantiles: tuple[float, ...] = ()
    """levels to forecast, ascending and between 0 and 1, such as 0.1 0.5 0.9; by default a point"""
    error: Literal["squared", "absolute"] = "squared"
    """what a point forecast descends"""
    epochs: int | None = None
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
    """of lstm, tcn, patchtst, tsmixer and itransformer"""
    width: int = 64
    """of lstm and tcn; patchtst and tsmixer have half of it, itransformer twice and nhits four times"""


@dl.prepared
def splits_of(config: Config):
    return scaled_series(dl.data.open(config.data, "series", config))


@dl.prepared
def rivals(config: Config):
    """{set: past, future, and what simple rivals forecast}."""
    return series_rivals(splits_of(config), *forecasting_windows(splits_of(config), 1))


def build(config: Config) -> dl.Experiment:
    splits, quantiles = splits_of(config), config.quantiles
    train, sets = forecasting_windows(splits, config.batch_size, seed=config.seed)
    panel, gaps, known = (name in splits.train for name in ("length", "series", "known"))
    details, more = splits.info.details, {"known": "known"} if known else {}
    horizon = details["horizon"] * max(1, len(quantiles))
    error, scale = getattr(supervised, config.error), instance_scale if panel else None
    design = details["period"], config.width, config.dropout, known
    model = forecaster(config.model, horizon, *design)
    task = forecasting(model, error=error, quantiles=quantiles, scale=scale, gaps=gaps, **more)

    def said(predictor, rows, name):
        """Forecasts of a set in the units of its series, with their quantiles on the last axis."""
        forecast, level = predictor(rows).astype(np.float64), sets[name].level
        return forecast + (level[..., None] if quantiles else level)

    def measure(predictor, columns, name):
        # The task's own scores are of a long series' windows, but not of each series of a panel.
        return rivals(config)[name].scores(said(predictor, columns, name)) if panel else {}

    def views(predictor):
        past, truth, others, _ = rivals(config)["validation"]
        forecast = said(predictor, sets["validation"], "validation")
        drawn = pictures.forecast_examples(past, truth, forecast, others["naive"])
        return {"forecast": drawn}  # of ETT the last variable, the oil's temperature

    return config.experiment(
        task,
        train,
        **dl.held_out(sets),
        usual_epochs=10,
        select="-validation/mase" if panel else "-validation/mse",
        measure=measure,
        baselines=lambda: rival_scores(rivals(config)),
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
