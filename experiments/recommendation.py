"""Recommendation: which films, or items of your own, a user takes next, or how a user rates them.

Data: movielens_100k (each user's last rating is test, the one before validation; --fold takes the official u1 to
u5), or --data FILE of users and items. The Transformer goes by what a user took, NeuMF and factors by who it is.
`dl predict RUN FILE` recommends. After SASRec (Kang & McAuley 2018), NeuMF (He et al. 2017), Koren et al. 2009.
"""

import dataclasses
from typing import Literal

import numpy as np

import dl
from dl.baselines.popularity import bias_scores, ranking_baselines
from dl.data.histories import histories, trained_on
from dl.data.own.ratings import OwnRatings
from dl.models.language import LanguageModel
from dl.models.recommender import MatrixFactorization, NeuMF
from dl.models.transformer import Transformer
from dl.scores.ranking import ranking_scores
from dl.scores.regression import rmse
from dl.tasks.recommendation import item_ranking, next_item, rating_prediction
from dl.training.predicting import item_scores, recommended

# Rows a batch, learning rate, epochs.
USUAL = {"transformer": (64, 4e-3, 35), "neumf": (1000, 1e-2, 20), "factors": (1000, 5e-3, 42)}


@dataclasses.dataclass(frozen=True)
class Config(OwnRatings, dl.Recipe):
    data: str = "movielens_100k"
    """a named set, or a csv, Parquet or Arrow file of your own with users and items"""
    model: Literal["transformer", "neumf", "factors"] = "transformer"
    """what comes next (transformer, neumf), or how it is rated (factors)"""
    context: int = 200
    """items of a history that the transformer sees"""
    width: int = 64
    """of the transformer, and of the vectors of users and items"""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    penalty: float = 0.1
    """times the squares of a rating's vectors, in the loss of factors"""
    negatives: int = 16
    """items drawn beside each that was taken, for neumf"""
    epochs: int | None = None
    batch_size: int = 0
    """by default 64 histories or 1,000 ratings"""
    learning_rate: float | None = None
    """by default 4e-3 for transformer, 1e-2 for neumf and 5e-3 for factors"""
    refit: bool = False
    """once all is chosen: train on the validation ratings too, and take the last state"""


@dl.prepared
def rows_of(config: Config):
    """The ratings as the model reads them."""
    splits = dl.data.open(config.data, "ratings", config)
    if config.refit:
        splits = dataclasses.replace(splits, train=splits.before("test"), validation={})
    if config.model == "transformer":
        return histories(splits, config.context)
    return splits.only("user", "item", "value")


def build(config: Config) -> dl.Experiment:
    splits, rows = dl.data.open(config.data, "ratings", config), rows_of(config)
    users, items = (len(splits.info.details[name]) for name in ("users", "items"))
    explicit, sizes = config.model == "factors", (config.width, config.layers, config.heads)
    if config.model == "transformer":
        body = Transformer(*sizes, causal=True, rope=10000.0, dropout=config.dropout)
        task = next_item(LanguageModel(items + 1, body))
    elif config.model == "neumf":
        model = NeuMF(users, items, config.width, dropout=config.dropout)
        task = item_ranking(model, negatives=config.negatives)
    else:
        if not np.ptp(splits.train["value"]):
            told = "every rating is the same: leave out --model factors, which predicts them"
            raise dl.UserError("target-one-class", f"{config.data}: {told}")
        mean = float(splits.train["value"].mean(dtype=np.float64))
        factors = MatrixFactorization(users, items, config.width)
        task = rating_prediction(factors, penalty=config.penalty, centre=mean)

    def measure(predictor, columns, name):
        if explicit:
            return {"rmse": rmse(predictor(columns), columns["value"])}

        def score(some):
            return item_scores(predictor, dl.data.take(columns, some), items)

        return ranking_scores(score, splits.parts[name], splits.before(name), items)

    size, rate, epochs = USUAL[config.model]
    if config.learning_rate is None:
        config = dataclasses.replace(config, learning_rate=rate)
    return config.experiment(
        task,
        **trained_on(rows.train, config.batch_size or size, config.seed),
        **dl.held_out(rows, 512),
        usual_epochs=epochs,
        least_steps=500,
        select=None if config.refit else "-validation/rmse" if explicit else "validation/ndcg@10",
        measure=measure,
        answer=lambda predictor, columns: recommended(predictor, columns, splits),
        baselines=lambda: {"biases": bias_scores(rows)} if explicit else ranking_baselines(splits),
    )


if __name__ == "__main__":
    dl.main(Config, build)
