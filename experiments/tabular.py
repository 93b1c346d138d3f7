"""Tables: income, credit risk, rare findings, diabetes, or a file of your own, beside boosted trees.

Data: adult (official split); german, mammography and pima (five stratified folds, --fold); --data FILE
--target COLUMN. Reference: Adult accuracy .859 FT-Transformer, .872 CatBoost (Gorishniy et al. 2021).
"""

import dataclasses
from typing import Literal

import numpy as np
from scipy.special import softmax

import dl
from dl.baselines.majority import majority
from dl.baselines.trees import boosted_trees, tree_predictions, tree_scores
from dl.data import tables
from dl.data.own.table import OwnTable
from dl.figures import pictures
from dl.models.tabular import tabular_network
from dl.scores.tabular import reliability, scores, tempered_ece
from dl.tasks.tabular import tabular_classification, tabular_regression, unweighted
from dl.training.predicting import labelled


@dataclasses.dataclass(frozen=True)
class Config(OwnTable, dl.Recipe):
    data: str = "adult"
    """adult, german, mammography, pima, or a csv, Parquet or Arrow file of your own"""
    model: Literal["mlp", "resnet", "transformer"] = "mlp"
    embedding: Literal["none", "periodic", "piecewise"] = "periodic"
    """of numbers, before the model"""
    scaling: Literal["quantile", "standard"] = "quantile"
    epochs: int | None = None
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


@dl.prepared
def scaled(config: Config):
    return tables.numerical_features(dl.data.open(config.data, "table", config), config.scaling)


@dl.prepared
def trees_of(config: Config):
    """{set: predictions of boosted trees}."""
    splits = dl.data.open(config.data, "table", config)
    trees = boosted_trees(splits.train, splits.validation, len(splits.info.classes))
    return {name: tree_predictions(trees, part) for name, part in splits.parts.items()}


def rivals(config: Config, raw):
    found = {"majority": majority(raw)} if raw.info.classes else {}
    return found | ({"trees": tree_scores(raw, trees_of(config))} if config.trees else {})


def build(config: Config) -> dl.Experiment:
    raw, splits = dl.data.open(config.data, "table", config), scaled(config)
    truth = {name: part["label"] for name, part in raw.parts.items()}
    classes, label, weights = len(splits.info.classes), splits.train["label"], None
    columns = splits.info.details["columns"]
    kinds = [len(c.categories) + 1 for c in columns if c.kind == "categorical"]
    design = splits.train["numerical"], config.embedding, config.dropout
    model = tabular_network(config.model, classes or 1, kinds, *design)
    if classes:
        weights = tables.class_weights(label, classes) if config.balanced else None
        task = tabular_classification(model, class_weights=weights)
    else:
        splits, mean, spread = tables.centred_label(splits)
        task = tabular_regression(model, spread=spread, origin=mean)
        centred = tabular_regression(model, spread=spread)  # less the mean, to be added in float64

    def said(predictor, columns):
        """Log-odds of the classes, or numbers."""
        if classes:
            return np.asarray(unweighted(predictor(columns), weights))
        return dl.Predictor(centred, predictor.variables)(columns).astype(np.float64) + mean

    def measure(predictor, columns, name):
        outputs = said(predictor, columns)
        found = scores(truth[name], softmax(outputs, -1) if classes else outputs)
        if classes == 2:  # calibrated by one number, fitted to the validation rows
            held = outputs if name == "validation" else said(predictor, splits.validation)
            found["ece_tempered"] = tempered_ece(outputs, truth[name], held, truth["validation"])
        return found

    def views(predictor):
        if classes != 2:
            return {}
        held = {"network": softmax(said(predictor, splits.validation), -1)}
        held |= {"trees": trees_of(config)["validation"]} if config.trees else {}
        curves = {name: reliability(p[:, 1], truth["validation"]) for name, p in held.items()}
        return {"reliability": pictures.reliability(curves, splits.info.title)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, min(config.batch_size, len(label)), config.seed),
        **dl.held_out(splits, 2048),
        usual_epochs=15,
        select=config.select or ("validation/accuracy" if classes else "-validation/mse"),
        classes=splits.info.classes,
        names=tables.feature_names(splits.info),
        measure=measure,
        answer=lambda own, rows: labelled(said(own, rows), splits.info.classes),
        views=views,
        baselines=lambda: rivals(config, raw),
    )


if __name__ == "__main__":
    dl.main(Config, build)
