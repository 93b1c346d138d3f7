"""Face verification: whether two pictures are of one person, by vectors learned on other people.

Data: the AT&T (ORL) faces, or your own pictures, a folder a person. The people of train, validation and test are
others (the first 70 %, the next 10 %, the rest); --known asks who of the known ones it is. `dl predict RUN FILES`
names the nearest person of training. After ArcFace (Deng et al. 2019).
"""

import dataclasses
from functools import partial

import dl
from dl.baselines.majority import on_held
from dl.baselines.pictures import pixel_vectors
from dl.data.own.pictures import OwnPictures
from dl.data.transforms.policies import Augmented
from dl.figures.verification import seen_from_above, trade_off
from dl.models.embedding import Embedding, PlacedCNN
from dl.scores.verification import all_pairs, known_scores, strangers_scores
from dl.tasks.metric_learning import metric_learning
from dl.training.predicting import nearest


@dataclasses.dataclass(frozen=True)
class Config(OwnPictures, Augmented, dl.Recipe):
    data: str = "orl_faces"
    """a named set, or a folder of your own pictures, a folder a person"""
    known: bool = False
    """tell apart the people of training by other pictures of them, in place of people never seen"""
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 5e-2
    warmup_percent: int = 10
    ema: float | None = 0.98
    flip: bool = True
    """mirror training pictures left and right"""
    width: int = 64
    """numbers of a vector"""
    widths: tuple[int, ...] = (16, 32, 64, 128)
    """channels of each stage"""
    dropout: float = 0.3
    margin: float = 0.3
    """radians that the angle to the true person is widened by in training"""
    scale: float = 16.0


def build(config: Config) -> dl.Experiment:
    splits = dl.data.open(config.data, "pictures", config)
    if not config.known:
        splits = splits.by_class()
    people = int(splits.train["label"].max()) + 1
    model = Embedding(PlacedCNN(config.widths, config.dropout), config.width, people)
    task = metric_learning(
        model, margin=config.margin, scale=config.scale, open_set=not config.known
    )

    def score(vectors, columns, name):
        if config.known:
            return known_scores(vectors, columns, splits.before(name))
        return strangers_scores(vectors, columns, splits.validation)

    def views(predictor):
        held, few = splits.validation, slice(0, 120)
        each = {"network": predictor(held), "pixels": pixel_vectors(held)}
        pairs = {name: all_pairs(x, held["label"]) for name, x in each.items()}
        shown = each["network"][few], held["label"][few], held["image"][few]
        return {"trade-off": trade_off(pairs, splits.info.title), "faces": seen_from_above(*shown)}

    return config.experiment(
        task,
        dl.train_batches(splits.train, config.batch_size, config.seed, at_most=True),
        augment=config.transforms(splits.train["image"].shape[1], people),
        usual_epochs=60 if config.known else 20,
        least_steps=150,
        **dl.held_out(splits, 200),
        select="validation/identified" if config.known else "-validation/equal_error",
        measure=score,
        answer=lambda own, rows: nearest(own, rows, splits.train, splits.info.classes),
        views=None if config.known else views,
        baselines=lambda: {"pixels": on_held(splits, partial(score, pixel_vectors))},
    )


if __name__ == "__main__":
    dl.main(Config, build)
