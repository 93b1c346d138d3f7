"""Tables: income, credit risk, rare findings, diabetes, or a csv file of your own, beside boosted trees.

Data: adult (official split); german, mammography and pima (five stratified folds, --fold); --csv FILE
--target COLUMN. Reference: Adult accuracy .859 FT-Transformer, .872 CatBoost (Gorishniy et al. 2021).
"""

import dataclasses
import functools
from typing import Literal

import jax
import numpy as np

import dl
from dl.data import load, load_table, tables
from dl.data.batches import eval_batches, train_batches
from dl.models import tabular as models
from dl.report import pictures
from dl.tasks.tabular import (
    COLUMNS,
    fit_temperature,
    reliability,
    scores,
    tabular_classification,
    tabular_regression,
    unweighted,
)
from dl.tasks.trees import boosted_trees, tree_predictions
from dl.training.predictions import predict_all


@dataclasses.dataclass(frozen=True)
class Config:
    data: Literal["adult", "german", "mammography", "pima"] = "adult"
    """a table that goes by a name"""
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    csv: str | None = None
    """a table of your own instead, first line headings; types are inferred and shown"""
    target: str = ""
    """the column of the csv to predict"""
    fold: int = 0
    """which fifth of a table without official split is test"""
    seed: int = 0
    """of initialisation, data order and dropout"""
    model: Literal["mlp", "resnet", "transformer"] = "mlp"
    embedding: Literal["none", "periodic", "piecewise"] = "periodic"
    """of numbers, before the model"""
    scaling: Literal["quantile", "standard"] = "quantile"
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    dropout: float = 0.2
    balanced: bool = False
    """weigh classes in the loss so that all count alike; probabilities are mended afterwards"""
    ema: float | None = None
    """decay of the averaged parameters that are evaluated"""
    select: str | None = None
    """metric that chooses the best step; by default accuracy, or -mse for numbers"""
    trees: bool = True
    """fit gradient-boosted trees to the same rows and print their scores beside"""


@functools.cache
def prepare(data, data_dir, csv, target, fold):
    """The parts before any scaling."""
    if csv is None and data == "adult":
        return load("adult", data_dir)
    table, info = tables.own_table(csv, target) if csv else load_table(data, data_dir)
    if csv:
        print(tables.summary(table))
    return tables.cross_validation(table, info, fold)


@functools.cache
def scaled(scaling, *key):
    return tables.numerical_features(prepare(*key), scaling)


@functools.cache
def trees_of(*key):
    """{set: predictions of boosted trees}."""
    splits = prepare(*key)
    trees = boosted_trees(splits.train, splits.validation, len(splits.info.classes))
    return {n: tree_predictions(trees, getattr(splits, n)) for n in ("validation", "test")}


def network(config: Config, splits: dl.data.Splits, outputs: int):
    cards = tuple(len(c.categories) + 1 for c in splits.info.details["columns"] if c.categories)
    size = 32 if config.model == "transformer" else 16
    embedding = {
        "none": lambda: None,
        "periodic": lambda: models.PeriodicEmbedding(size),
        "piecewise": lambda: models.PiecewiseLinearEmbedding(
            models.quantile_edges(splits.train["numerical"]), size
        ),
    }[config.embedding]()
    if config.model == "resnet":
        return models.TabularResNet(outputs, cards, embedding, hidden_dropout=config.dropout)
    if config.model == "transformer":
        return models.FTTransformer(outputs, cards, embedding, size, 4, 2, dropout=config.dropout)
    return models.TabularMLP(outputs, cards, embedding, dropout=config.dropout)


def build(config: Config) -> dl.Experiment:
    key = (config.data, config.data_dir, config.csv, config.target, config.fold)
    raw, splits = prepare(*key), scaled(config.scaling, *key)
    classes, label, weights = len(splits.info.classes), splits.train["label"], None
    if classes:
        weights = tables.class_weights(label, classes) if config.balanced else None
        task = tabular_classification(network(config, splits, classes), class_weights=weights)
    else:
        centre, spread = float(label.mean()), float(label.std()) or 1.0
        task = tabular_regression(network(config, splits, 1), centre=centre, spread=spread)
    batch_size = min(config.batch_size, len(label))
    train = train_batches(splits.train, batch_size, config.seed)
    sets = {n: eval_batches(getattr(splits, n), 2048) for n in ("validation", "test")}
    steps = max(1, config.epochs * train.size // batch_size)
    rate = dl.schedule("cosine", config.learning_rate, steps, warmup=steps // config.epochs)
    predict = jax.jit(task.predict)

    def said(variables, name, temperature=1.0):
        """Probabilities of one set's classes, or numbers."""
        outputs = predict_all(predict, variables, sets[name], COLUMNS)
        if not classes:
            return outputs
        return np.asarray(jax.nn.softmax(np.asarray(unweighted(outputs, weights)) / temperature))

    def measure(variables, name):
        truth = getattr(raw, name)["label"]
        found = scores(truth, said(variables, name))
        if classes == 2:  # calibrated by one number, fitted to the validation rows
            held = predict_all(predict, variables, sets["validation"], COLUMNS)
            heat = fit_temperature(unweighted(held, weights), raw.validation["label"])
            calm = said(variables, name, heat)
            found["ece_tempered"] = scores(truth, calm)["ece"]
        trees = scores(truth, trees_of(*key)[name]) if config.trees else {}
        return found | {f"trees_{metric}": value for metric, value in trees.items()}

    def views(variables):
        if classes != 2:
            return {}
        curves = {"network": said(variables, "validation")}
        if config.trees:
            curves["trees"] = trees_of(*key)["validation"]
        truth = raw.validation["label"]
        curves = {name: reliability(p[:, 1], truth) for name, p in curves.items()}
        return {"reliability": pictures.reliability(curves, splits.info.title)}

    return dl.Experiment(
        task=task,
        data=train,
        optimizer=dl.optimizer("adamw", rate, weight_decay=config.weight_decay, clip=1.0),
        steps=steps,
        seed=config.seed,
        evals={"validation": sets["validation"]},
        tests={"test": sets["test"]},
        select=config.select or ("validation/accuracy" if classes else "-validation/mse"),
        ema=config.ema,
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
