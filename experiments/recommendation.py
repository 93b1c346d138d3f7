"""Recommendation: which films, or items of your own, a user takes next, or how a user rates them.

Data: movielens_100k (each user's last rating is test and the one before validation; by --fold the official folds
u1 to u5), or --data FILE of users and items. A causal Transformer goes by what a user took, so that it takes new
users too; NeuMF and factors go by who the user is. `dl predict RUN FILE` recommends to a file's users. Reference:
SASRec (Kang & McAuley 2018), NeuMF (He et al. 2017); RMSE of biased factors (Koren et al. 2009) .91 to .94.
"""

import dataclasses
from typing import Literal

import numpy as np

import dl
from dl.baselines.popularity import bias_scores, ranking_baselines
from dl.data.histories import histories
from dl.data.own.ratings import OwnRatings
from dl.models.language import LanguageModel
from dl.models.recommender import MatrixFactorization, NeuMF
from dl.models.transformer import Transformer
from dl.scores.ranking import known_items, ranking_scores
from dl.tasks.recommendation import item_ranking, next_item, rating_prediction
from dl.training.predicting import recommended


@dataclasses.dataclass(frozen=True)
class Config(OwnRatings, dl.Recipe):
    data: str = "movielens_100k"
    """or a csv, Parquet or Arrow file of your own with users and items"""
    model: Literal["transformer", "neumf", "factors"] = "transformer"
    """what comes next (transformer, neumf), or how it is rated (factors)"""
    context: int = 200
    """items of a history that the transformer sees"""
    width: int = 64
    """of the transformer, and of the vectors of users and items"""
    layers: int = 2
    heads: int = 2
    dropout: float = 0.3
    """of transformer and neumf"""
    penalty: float = 0.1
    """times the squares of a rating's vectors, in the loss of factors"""
    negatives: int = 4
    """items drawn beside each that was taken, for neumf"""
    epochs: int | None = None
    batch_size: int = 0
    """by default 64 histories or 1,000 ratings"""
    weight_decay: float = 0.0
    members: int = 1
    """networks whose scores are averaged"""
    refit: bool = False
    """once all is chosen: train on the validation ratings too, and take the last state"""


def splits_of(config: Config):
    return dl.data.open(config.data, "ratings", config)


@dl.prepared
def rows_of(config: Config):
    """The ratings as the model reads them."""
    splits = splits_of(config)
    if config.refit:
        splits = dataclasses.replace(splits, train=splits.before("test"), validation={})
    if config.model == "transformer":
        return histories(splits, config.context)
    return splits.only("user", "item", "value")


def build(config: Config) -> dl.Experiment:
    splits, rows = splits_of(config), rows_of(config)
    users, items = (len(splits.info.details[name]) for name in ("users", "items"))
    explicit, sizes = config.model == "factors", (config.width, config.layers, config.heads)
    if config.model == "transformer":
        body = Transformer(*sizes, causal=True, rope=10000.0, dropout=config.dropout)
        task = next_item(LanguageModel(items + 1, body))
    elif config.model == "neumf":
        model = NeuMF(users, items, config.width, dropout=config.dropout)
        task = item_ranking(model, negatives=config.negatives)
    else:
        mean = float(splits.train["value"].mean(dtype=np.float64))
        factors = MatrixFactorization(users, items, config.width)
        task = rating_prediction(factors, penalty=config.penalty, centre=mean)

    def measure(predictor, columns, name):
        if explicit:
            error = predictor(columns).astype(np.float64) - columns["value"]
            return {"rmse": float(np.sqrt(np.mean(error**2)))}

        def score(rows):
            return predictor({c: columns[c][rows] for c in predictor.task.columns})

        return ranking_scores(score, splits.parts[name], splits.before(name), items)

    def answer(predictor, columns):
        """The ten best items that the users have not rated."""
        user = columns["user"]
        if explicit:
            pairs = {"user": np.repeat(user, items), "item": np.tile(np.arange(items), len(user))}
            scores = predictor(pairs).reshape(-1, items)
        else:
            scores = predictor({c: columns[c] for c in predictor.task.columns})
        known = known_items(user, splits.before("test"), items)
        return recommended(scores, known, splits.info.details)

    usual = 64 if config.model == "transformer" else 1000
    batch_size = min(config.batch_size or usual, len(rows.train["user"]))
    return config.experiment(
        dl.ensemble(task, config.members),
        dl.train_batches(rows.train, batch_size, config.seed),
        **dl.held_out(rows, 512),
        usual_epochs=60,
        select=None if config.refit else "-validation/rmse" if explicit else "validation/ndcg@10",
        measure=measure,
        answer=answer,
        baselines=lambda: (
            {"biases": bias_scores(splits)} if explicit else ranking_baselines(splits)
        ),
    )


if __name__ == "__main__":
    dl.main(Config, build)
