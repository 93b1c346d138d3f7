"""Death in hospital from the first 48 hours in intensive care: values at times of their own, masks and gaps.

GRU-D or a Transformer over the hours, beside boosted trees on summaries. Data: PhysioNet 2012 (train and
choose on set-a, test once on set-c), or --data FOLDER with events.csv and stays.csv. Reference: trees on
summaries, AUC .864, average precision .546.
"""

import dataclasses
from typing import Literal

from scipy.special import softmax

import dl
from dl.baselines.trees import predicted_by_trees, tree_rivals
from dl.data import irregular
from dl.data.own.records import OwnRecords
from dl.figures import pictures
from dl.models.irregular import GRUD, SeriesAndFixed, StepTransformer
from dl.scores.tabular import intervals, judged
from dl.tasks.tabular import tabular_classification


@dataclasses.dataclass(frozen=True)
class Config(OwnRecords, dl.Members, dl.Recipe):
    data: str = "physionet2012"
    """physionet2012, or a folder of your own with events.csv and stays.csv"""
    model: Literal["grud", "transformer"] = "grud"
    width: int = 64
    summaries: bool = True
    """give the network each variable's first, last, least, most and mean value and their number too"""
    epochs: int = 20
    dropout: float = 0.3
    weight_decay: float = 1e-2
    ema: float | None = 0.995
    trees: bool = True
    """fit gradient-boosted trees to summaries of the same hours and print their scores beside"""


@dl.prepared
def scaled(config: Config):
    splits = dl.data.open(config.data, "records", config)
    return irregular.beside_fixed(irregular.filled(splits), config.summaries)


@dl.prepared
def trees_of(config: Config):
    """{set: predictions of boosted trees on summaries}."""
    return predicted_by_trees(irregular.table(dl.data.open(config.data, "records", config)))


def build(config: Config) -> dl.Experiment:
    splits = scaled(config)
    classes, held = splits.info.classes, splits.validation
    body = GRUD if config.model == "grud" else StepTransformer
    own = body(config.width, dropout=config.dropout)
    model = SeriesAndFixed(len(classes), own, config.width, config.dropout)

    def measure(predictor, columns, name):
        said = predictor(columns)
        known = said if name == "validation" else predictor(held)
        found = judged(columns, said, held, known)
        return found | (intervals(columns["label"], said) if name == "test" else {})

    def views(predictor):
        told = {"network": softmax(predictor(held), -1)[:, -1]}
        told |= {"trees": trees_of(config)["validation"][:, -1]} if config.trees else {}
        last = held["label"] == len(classes) - 1
        return {"reliability": pictures.calibration(told, last, splits.info.title)}

    return config.experiment(
        dl.ensemble(tabular_classification(model, columns=irregular.COLUMNS), config.members),
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 500),
        select="validation/auc" if len(classes) == 2 else "validation/accuracy",
        classes=classes,
        measure=measure,
        views=views,
        baselines=lambda: tree_rivals(splits, trees_of(config) if config.trees else None),
    )


if __name__ == "__main__":
    dl.main(Config, build)
