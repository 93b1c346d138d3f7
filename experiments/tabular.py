"""Tables: income, credit risk, fraud, crops, customers, or a file of your own, beside boosted trees.

Data: adult, statlog_landsat (official split); vehicle_claims, ulb_card, bank_marketing (split by time);
german, mammography, pima (--folds 5); --data FILE --target COLUMN (--time, --group, --weight).
Reference: Adult accuracy .859 FT-Transformer, .872 CatBoost (Gorishniy et al. 2021).
"""

import dataclasses
from typing import Any, Literal

from scipy.special import softmax

import dl
from dl.baselines.trees import predicted_by_trees, tree_rivals
from dl.data import cells, tables
from dl.data.crosses import crossed
from dl.data.drift import drift
from dl.data.own.table import OwnTable
from dl.figures import pictures
from dl.models.tabular import tabular_network
from dl.scores.tabular import judged
from dl.tasks.tabular import of_table
from dl.training.predicting import labelled


@dataclasses.dataclass(frozen=True)
class Config(OwnTable, dl.Members, dl.Recipe):
    data: str = "adult"
    """a named table, or a csv, Parquet or Arrow file of your own"""
    model: Literal["mlp", "resnet", "transformer"] = "mlp"
    embedding: Literal["none", "periodic", "piecewise"] = "periodic"
    """of numbers, before the model"""
    scaling: Literal["quantile", "standard"] = "quantile"
    crosses: tuple[str, ...] = ()
    """columns whose pairs with every other one are categories too"""
    epochs: int | None = None
    batch_size: int = 256
    warmup_percent: int = 7
    weight_decay: float = 1e-4
    dropout: float = 0.2
    balanced: bool = False
    """weigh classes in the loss so that all count alike; probabilities are mended afterwards"""
    budget: float | None = None
    """share of the rows that can be looked at: precision and recall of the likeliest ones"""
    costs: tuple[float, float] | None = None
    """of a false alarm and of a miss: the mean cost at the threshold that is cheapest on validation"""
    select: str | None = None
    """metric that chooses the best step; by default accuracy, or -mse for numbers"""
    trees: bool = True
    """fit gradient-boosted trees to the same rows and print their scores beside"""


@dl.prepared
def fitted(config: Config):
    splits = crossed(dl.data.open(config.data, "table", config), config.crosses)
    return tables.fitted(splits, config.scaling, config.balanced)


@dl.prepared
def trees_of(config: Config):
    """{set: predictions of boosted trees}."""
    return predicted_by_trees(dl.data.open(config.data, "table", config))


def build(config: Config) -> dl.Experiment:
    raw, (splits, fit) = dl.data.open(config.data, "table", config), fitted(config)
    classes, columns = len(splits.info.classes), splits.info.details["columns"]
    kinds = [len(c.categories) + 1 for c in columns if c.kind == "categorical"]
    design = splits.train["numerical"], config.embedding, config.dropout
    model = tabular_network(config.model, classes or 1, kinds, *design)
    task, say = of_table(model, classes, fit, config.members)
    asked: Any = {"budget": config.budget, "costs": config.costs}

    def measure(predictor, columns, name):
        said = say(predictor, columns)
        held = said if name == "validation" else say(predictor, splits.validation)
        return judged(raw.parts[name], said, raw.validation, held, **asked)

    def views(predictor):
        drawn = {"drift": drift(raw)}
        if classes == 2:
            told = {"network": softmax(say(predictor, splits.validation), -1)[:, 1]}
            told |= {"trees": trees_of(config)["validation"][:, 1]} if config.trees else {}
            truth, title = raw.validation["label"], splits.info.title
            drawn["reliability"] = pictures.calibration(told, truth, title)
        return drawn

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 2048),
        usual_epochs=15,
        select=config.select or ("validation/accuracy" if classes else "-validation/mse"),
        classes=splits.info.classes,
        names=tables.feature_names(splits.info),
        cells=cells.table_cells(raw),
        measure=measure,
        answer=lambda own, rows: labelled(say(own, rows), splits.info.classes),
        views=views,
        baselines=lambda: tree_rivals(raw, trees_of(config) if config.trees else None, **asked),
    )


if __name__ == "__main__":
    dl.main(Config, build)
