"""Customers by what they bought: how often each buys again, and segments of those alike with what sets them apart.

A network corrects the BG/NBD model (Fader, Hardie & Lee 2005), which stands beside it, by what that does not
know: amounts, items, months. It codes a customer in a few numbers, whose clusters are the segments. Data: cdnow
(39 weeks to look at, 39 to foretell; every tenth customer is test), or --data FILE of your own, a row a purchase.
"""

import dataclasses
import functools

from scipy.special import expit

import dl
from dl.baselines.purchases import fit_bgnbd, purchase_rivals
from dl.data import customers
from dl.data.own.purchases import OwnPurchases
from dl.figures.codes import code_map
from dl.models.customers import CustomerCode
from dl.scores.purchases import chosen_segments, purchase_scores, told_apart
from dl.tasks.counts import poisson_counts


@dataclasses.dataclass(frozen=True)
class Config(OwnPurchases, dl.Recipe):
    data: str = "cdnow"
    """cdnow, or a csv, Parquet or Arrow file of your own: customer, day, perhaps items and amount"""
    code: int = 4
    """numbers that a customer becomes, whose clusters are the segments"""
    most: int = 8
    """segments; validation chooses how many, by how well they tell who buys"""
    widths: tuple[int, ...] = (32,)
    dropout: float = 0.2
    epochs: int = 15
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    ema: float | None = 0.99


@dl.prepared
def expected(config: Config):
    """{part: purchases that BG/NBD expects}, fitted to what training customers bought before the cut."""
    splits = dl.data.open(config.data, "purchases", config)
    model, weeks = fit_bgnbd(splits.train), splits.info.details["weeks"]
    return {name: model.expected(part, weeks) for name, part in splits.parts.items()}


@dl.prepared
def scaled(config: Config):
    splits = dl.data.open(config.data, "purchases", config)
    return customers.scaled(splits, expected(config))


def build(config: Config) -> dl.Experiment:
    splits, raw = scaled(config), dl.data.open(config.data, "purchases", config)
    held = splits.validation
    task = poisson_counts(CustomerCode(config.code, config.widths, config.dropout))

    def measure(predictor, columns, name):
        said = predictor(columns)
        return purchase_scores(columns, said["rate"], said["again"])

    @functools.lru_cache(maxsize=1)
    def segmented(predictor):
        train, code = splits.train, predictor(held)["code"]
        known = predictor(train)["code"], train["later"]
        return chosen_segments(*known, code, held["later"], config.most), code

    def views(predictor):
        segments, code = segmented(predictor)
        own = segments.of(code)
        told = told_apart(own, raw.validation["profile"], held["later"], customers.PROFILE)
        return {"segments": code_map(code, own), "apart": f"Validation customers.\n{told}"}

    def answer(predictor, columns):
        said = predictor(columns)
        segment = segmented(predictor)[0].of(said["code"])
        return {"purchases": said["rate"], "p_again": expit(said["again"]), "segment": segment}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        **dl.held_out(splits, 2048),
        select="-validation/loss",
        names={"features": (*customers.FEATURES, "log purchases expected by BG/NBD")},
        measure=measure,
        views=views,
        answer=answer,
        baselines=lambda: purchase_rivals(raw, expected(config)),
    )


if __name__ == "__main__":
    dl.main(Config, build)
