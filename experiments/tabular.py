"""Tables: income, credit risk, rare findings, diabetes, or a file of your own, beside boosted trees.

Data: adult (official split); german, mammography and pima (five stratified folds, --fold); --csv FILE
--target COLUMN. Reference: Adult accuracy .859 FT-Transformer, .872 CatBoost (Gorishniy et al. 2021).
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np
from scipy.special import softmax

import dl
from dl.baselines.trees import boosted_trees, tree_predictions
from dl.data import load, load_table, tables
from dl.data.batches import eval_batches, train_batches
from dl.figures import pictures
from dl.models.tabular import tabular_network
from dl.scores.tabular import fit_temperature, reliability, scores
from dl.tasks.tabular import COLUMNS, tabular_classification, tabular_regression, unweighted
from dl.training.prediction import predict_all


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data: Literal["adult", "german", "mammography", "pima"] = "adult"
    """a table that goes by a name"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    csv: str | None = None
    """a csv, Parquet or Arrow file of your own instead; types, marks and headings are guessed and shown"""
    target: str = ""
    """the column of the csv to predict"""
    separator: str | None = None
    """the character between the cells of the csv, where the guess is wrong"""
    decimal: Literal[".", ","] | None = None
    """the decimal mark of its numbers"""
    encoding: str | None = None
    """of its text, where it is not UTF-8, such as cp1252"""
    dates: str | None = None
    """format of its times, such as %d.%m.%Y, where it is not ISO 8601"""
    missing: tuple[str, ...] | None = None
    """cells that stand for no value, instead of the usual ones"""
    categorical: tuple[str, ...] = ()
    """its columns of numbers that are categories"""
    ignore: tuple[str, ...] = ()
    """its columns to leave out"""
    fold: int = 0
    """which fifth of a table without official split is test"""
    model: Literal["mlp", "resnet", "transformer"] = "mlp"
    embedding: Literal["none", "periodic", "piecewise"] = "periodic"
    """of numbers, before the model"""
    scaling: Literal["quantile", "standard"] = "quantile"
    epochs: int = 15
    batch_size: int = 256
    warmup_percent: int = 7
    weight_decay: float = 1e-4
    dropout: float = 0.2
    balanced: bool = False
    """weigh classes in the loss so that all count alike; probabilities are mended afterwards"""
    select: str | None = None
    """metric that chooses the best step; by default accuracy, or -mse for numbers"""
    trees: bool = True
    """fit gradient-boosted trees to the same rows and print their scores beside"""


READING = ("separator", "decimal", "encoding", "dates", "missing", "categorical", "ignore")


@functools.cache
def prepare(data, data_dir, csv, target, fold, *reading):
    """The parts before any scaling."""
    if csv is None and (target or any(reading)):
        raise dl.UserError(
            f"target, {', '.join(READING)} are for a csv of your own: leave them out"
        )
    if csv and data != Config.data:
        raise dl.UserError(
            f"csv is a table of your own, and data {data} another: give one of the two"
        )
    if csv is None and data == "adult":
        if fold:
            raise dl.UserError("adult has an official split: leave fold out")
        return load("adult", data_dir)
    if csv:
        table, info = tables.own_table(csv, target, **dict(zip(READING, reading, strict=True)))
        print(tables.summary(table))
    else:
        table, info = load_table(data, data_dir)
    splits = tables.cross_validation(table, info, fold)
    print("".join(f"{note}\n" for note in splits.info.details["notes"]), end="")
    return splits


@functools.cache
def scaled(scaling, *key):
    return tables.numerical_features(prepare(*key), scaling)


@functools.cache
def trees_of(*key):
    """{set: predictions of boosted trees}."""
    splits = prepare(*key)
    trees = boosted_trees(splits.train, splits.validation, len(splits.info.classes))
    return {n: tree_predictions(trees, getattr(splits, n)) for n in ("validation", "test")}


def build(config: Config) -> dl.Experiment:
    names = ("data", "data_dir", "csv", "target", "fold", *READING)
    key = tuple(getattr(config, name) for name in names)
    raw, splits = prepare(*key), scaled(config.scaling, *key)
    classes, label, weights = len(splits.info.classes), splits.train["label"], None
    model = tabular_network(
        config.model,
        classes or 1,
        [len(c.categories) + 1 for c in splits.info.details["columns"] if c.categories],
        splits.train["numerical"],
        config.embedding,
        config.dropout,
    )
    if classes:
        weights = tables.class_weights(label, classes) if config.balanced else None
        task = tabular_classification(model, class_weights=weights)
        predict = jax.jit(task.predict)
    else:
        splits, mean, spread = tables.centred_label(splits)
        task = tabular_regression(model, spread=spread, origin=mean)
        predict = jax.jit(tabular_regression(model, spread=spread).predict)  # less the mean
    sets = {n: eval_batches(getattr(splits, n), 2048) for n in ("validation", "test")}

    def said(variables, name):
        """Log-odds of one set's classes, or numbers."""
        outputs = predict_all(predict, variables, sets[name], COLUMNS)
        if classes:
            return np.asarray(unweighted(outputs, weights))
        return np.asarray(outputs, np.float64) + mean

    def measure(variables, name):
        truth, outputs = getattr(raw, name)["label"], said(variables, name)
        found = scores(truth, softmax(outputs, -1) if classes else outputs)
        if classes == 2:  # calibrated by one number, fitted to the validation rows
            held = outputs if name == "validation" else said(variables, "validation")
            heat = fit_temperature(held, raw.validation["label"])
            found["ece_tempered"] = scores(truth, softmax(outputs / heat, -1))["ece"]
        trees = scores(truth, trees_of(*key)[name]) if config.trees else {}
        return found | {f"trees_{metric}": value for metric, value in trees.items()}

    def views(variables):
        if classes != 2:
            return {}
        curves = {"network": softmax(said(variables, "validation"), -1)}
        if config.trees:
            curves["trees"] = trees_of(*key)["validation"]
        truth = raw.validation["label"]
        curves = {name: reliability(p[:, 1], truth) for name, p in curves.items()}
        return {"reliability": pictures.reliability(curves, splits.info.title)}

    return config.experiment(
        task,
        train_batches(splits.train, min(config.batch_size, len(label)), config.seed),
        epochs=config.epochs,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select=config.select or ("validation/accuracy" if classes else "-validation/mse"),
        classes=splits.info.classes,
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
