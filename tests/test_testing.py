"""Every task and every way to make batches keeps the contract; each rule of it catches what breaks it."""

import dataclasses
import random
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dl
from dl.core.metrics import Mean, mean
from dl.data.batches import eval_batches, train_batches
from dl.data.batches.buckets import bucket_batches
from dl.data.batches.streams import ArraySource, StreamBatches, StreamEvalBatches
from dl.data.batches.tokens import crops, packed_crops, strided, tracks
from dl.data.batches.windows import Slice, eval_windows, train_windows
from dl.models.autoencoder import Autoencoder
from dl.models.detector import Places, grid
from dl.models.embedding import Embedding
from dl.models.gan import GAN
from dl.models.language import LanguageModel
from dl.models.layers import Dropout
from dl.models.mlp import MLP
from dl.models.recommender import MatrixFactorization, NeuMF
from dl.models.rnn import RNN, RecurrentLanguageModel, gru
from dl.models.tabular import TabularMLP
from dl.models.transformer import Transformer
from dl.models.vae import VAE
from dl.tasks.adversarial import adversarial
from dl.tasks.autoencoding import autoencoding, gaussian_noise
from dl.tasks.classification import classification
from dl.tasks.ctc import ctc
from dl.tasks.detection import detection
from dl.tasks.forecasting import forecasting, instance_scale
from dl.tasks.language_modeling import language_modeling
from dl.tasks.masked_language_modeling import masked_language_modeling
from dl.tasks.metric_learning import metric_learning
from dl.tasks.recommendation import item_ranking, next_item, rating_prediction
from dl.tasks.regression import regression
from dl.tasks.segmentation import segmentation
from dl.tasks.sequence_classification import sequence_classification
from dl.tasks.sequence_to_sequence import sequence_to_sequence
from dl.tasks.speech import speech_classification
from dl.tasks.style_transfer import style_network, style_transfer
from dl.tasks.tabular import tabular_classification, tabular_regression
from dl.tasks.variational import variational
from dl.testing import check_batches, check_task

# -- models that are quick to compile ----------------------------------------------------------------


class Net(nn.Module):
    """An MLP with dropout and batch norm, ``[batch, outputs]``."""

    outputs: int = 3

    @nn.compact
    def __call__(self, x, *, train=False):
        x = nn.Dense(4)(x.reshape(len(x), -1).astype(jnp.float32))
        x = Dropout(0.5)(nn.tanh(x), train=train)
        return nn.Dense(self.outputs)(nn.BatchNorm(use_running_average=not train)(x))


class One(nn.Module):
    """``[batch]``."""

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return nn.Dense(1)(x.reshape(len(x), -1))[:, 0]


class Everywhere(nn.Module):
    """A dense layer on the last axis."""

    outputs: int

    @nn.compact
    def __call__(self, x, label=None, *, train=False):
        return jax.nn.sigmoid(nn.Dense(self.outputs)(x))


class Words(nn.Module):
    """A guess for every token from it and the one before, and a carry."""

    vocabulary: int = 12

    @nn.compact
    def __call__(self, tokens, *, carry=None, mask=None, train=False):
        x = nn.Embed(self.vocabulary, 4)(tokens)
        x = Dropout(0.5)(x + jnp.pad(x, ((0, 0), (1, 0), (0, 0)))[:, :-1], train=train)
        return nn.Dense(self.vocabulary)(x), carry


class Interpreter(nn.Module):
    """The next token from the last one and the mean of the source."""

    vocabulary: int = 12

    def setup(self):
        self.embedding, self.head = nn.Embed(self.vocabulary, 4), nn.Dense(self.vocabulary)

    def __call__(self, source, target, *, train=False):
        return self.begin(source, target, 0)[0]

    def begin(self, source, tokens, length):
        return self.decode(tokens, self.embedding(source).mean(1)[None])

    def decode(self, tokens, carry):
        return self.head(self.embedding(tokens) + carry[0, :, None]), carry


class Bag(nn.Module):
    """A label for a row of tokens."""

    @nn.compact
    def __call__(self, tokens, *, train=False):
        return nn.Dense(3)(nn.Embed(12, 4)(tokens).mean(1))


class Frames(nn.Module):
    """Logits of every frame, and how many frames are real."""

    @nn.compact
    def __call__(self, x, frames, *, train=False):
        return nn.Dense(4)(x), frames


class Clip(nn.Module):
    @nn.compact
    def __call__(self, x, frames, *, train=False):
        return nn.Dense(3)(x.mean(1))


class Cells(nn.Module):
    """A detector that looks at squares of 8 pixels."""

    @nn.compact
    def __call__(self, x, *, train=False):
        side = x.shape[1] // 8
        x = x.reshape(len(x), side, 8, side, 8, -1).mean((2, 4)).reshape(len(x), side**2, -1)
        logits, size = nn.Dense(2)(x), jax.nn.softplus(nn.Dense(4)(x)) * 8
        centre = jnp.asarray(grid(side, side, 8))
        boxes = jnp.concatenate([centre - size[..., :2], centre + size[..., 2:]], -1)
        return Places(centre, jnp.full(len(centre), 8.0), logits, boxes, nn.Dense(1)(x)[..., 0])


def framed(x):
    return x["waveform"].astype(jnp.float32).reshape(len(x["length"]), 6, -1) / 100, x["length"]


def maps(x):
    return [x[..., :2], jnp.tanh(x @ jnp.ones((3, 2)))]


# -- every task --------------------------------------------------------------------------------------

DRAW = np.random.default_rng(0)
PICTURES = {
    "image": DRAW.integers(0, 256, (4, 4, 4, 1)).astype(np.uint8),
    "label": np.arange(4) % 3,
}
COLOURED = {"image": DRAW.integers(0, 256, (4, 4, 4, 3)).astype(np.uint8)}
TOKENS = DRAW.integers(7, 12, (4, 6)).astype(np.int32)
TEXT = {"inputs": TOKENS, "targets": np.roll(TOKENS, -1, 1)}
SPEECH = {
    "waveform": DRAW.integers(-99, 99, (4, 24)).astype(np.int16),
    "length": np.array([6, 5, 6, 4], np.int32),
}
TABLE = {
    "numerical": DRAW.normal(size=(4, 3)).astype(np.float32),
    "missing": np.zeros((4, 3), np.float32),
    "categorical": DRAW.integers(0, 3, (4, 1)).astype(np.int32),
}
SERIES = {
    "past": DRAW.normal(size=(4, 5, 2)).astype(np.float32),
    "future": DRAW.normal(size=(4, 3, 2)).astype(np.float32),
}
NOISE = {"noise": DRAW.normal(size=(4, 2)).astype(np.float32)}


class Ahead(nn.Module):
    """``[batch, steps, 2]`` from windows of two variables."""

    steps: int

    @nn.compact
    def __call__(self, x, *, train=False):
        return nn.Dense(self.steps)(x.swapaxes(1, 2)).swapaxes(1, 2)


RATED = {
    "user": np.array([0, 2, 2, 1], np.int32),
    "item": np.array([3, 0, 4, 4], np.int32),
}
TASKS: dict[str, tuple[Any, ...]] = {
    "adversarial": (
        adversarial(GAN(Everywhere(2), One(), latent=2), inputs="x", prepare=lambda x: x),
        {"x": NOISE["noise"]},
        NOISE,
    ),
    "adversarial by label": (
        adversarial(
            GAN(Everywhere(2), One(), latent=2),
            inputs="x",
            prepare=lambda x: x,
            label="y",
            gradient_penalty=10.0,
        ),
        {"x": NOISE["noise"], "y": np.arange(4)},
        NOISE,
    ),
    "autoencoding": (
        autoencoding(Autoencoder(MLP((3,)), MLP((16,)), (4, 4, 1)), noise=gaussian_noise(0.1)),
        PICTURES,
    ),
    "classification": (classification(Net(), label_smoothing=0.1), PICTURES),
    "an ensemble": (dl.ensemble(classification(MLP((3,))), 2), PICTURES),
    "ctc": (
        ctc(Frames(), framed),
        {**SPEECH, "label": np.array([[0, 2], [1, -1], [2, 0], [1, 1]])},
    ),
    "detection": (
        detection(Cells(), (8,), most=3, candidates=4),
        {
            "image": DRAW.integers(0, 256, (4, 16, 16, 1)).astype(np.uint8),
            "boxes": np.tile(np.array([[0, 0, 9, 9], [4, 4, 15, 12]], np.float32), (4, 1, 1)),
            "label": np.array([[0, 1], [1, -1], [-1, -1], [1, 0]]),
        },
    ),
    "forecasting": (forecasting(Ahead(3), scale=instance_scale), SERIES),
    "forecasting quantiles": (forecasting(Ahead(9), quantiles=(0.1, 0.5, 0.9)), SERIES),
    "language_modeling": (
        language_modeling(Words()),
        {**TEXT, "weight": np.ones((4, 6), np.float32)},
    ),
    "language_modeling carried": (
        language_modeling(RecurrentLanguageModel(12, RNN(3, gru)), carried=True),
        {**TEXT, "reset": np.ones(4, np.float32)},
    ),
    "masked_language_modeling": (
        masked_language_modeling(Words(), 12, rate=0.5),
        {"tokens": TOKENS},
    ),
    "regression": (
        regression(One(), inputs="x", spread=2.0),
        {"x": NOISE["noise"], "label": NOISE["noise"][:, 0]},
    ),
    "segmentation": (
        segmentation(Everywhere(2), 2),
        {**PICTURES, "segments": DRAW.integers(-1, 2, (4, 4, 4))},
    ),
    "sequence_classification": (
        sequence_classification(Bag(), word_dropout=0.3),
        {"tokens": TOKENS, "label": np.arange(4) % 3},
    ),
    "sequence_to_sequence": (
        sequence_to_sequence(Interpreter(), 3, beams=2),
        {
            "source": TOKENS[:, :3],
            "target": np.pad(TOKENS[:, :2], ((0, 0), (1, 1)), constant_values=2),
        },
    ),
    "rating_prediction": (
        rating_prediction(MatrixFactorization(3, 5, 2), penalty=0.1, centre=3.0),
        {**RATED, "value": np.arange(4.0, dtype=np.float32)},
    ),
    "metric_learning": (metric_learning(Embedding(Net(), 4, 3)), PICTURES),
    "metric_learning of strangers": (
        metric_learning(Embedding(Net(), 4, 3), open_set=True),
        PICTURES,
    ),
    "item_ranking": (item_ranking(NeuMF(3, 5, 2, (4, 4), dropout=0.1), negatives=2), RATED),
    "next_item": (
        next_item(LanguageModel(6, Transformer(8, 1, 2, causal=True, rope=1e4, dropout=0.1))),
        {
            "inputs": np.array([[0, 1, 2], [0, 0, 0], [0, 5, 0], [3, 1, 5]], np.int32),
            "targets": np.array([[1, 2, 4], [3, 0, 0], [5, 1, 0], [1, 5, 2]], np.int32),
            "weight": np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 1, 1]], np.float32),
        },
    ),
    "speech_classification": (
        speech_classification(Clip(), framed),
        {**SPEECH, "label": np.arange(4) % 3},
    ),
    "style_network": (
        style_network(Everywhere(3), maps, COLOURED["image"][0], (1.0, 0.0), (1.0, 1.0)),
        COLOURED,
    ),
    "style_transfer": (
        style_transfer(maps, (1.0, 0.0), (1.0, 1.0)),
        {"content": COLOURED["image"][:1], "style": COLOURED["image"][1:2]},
    ),
    "tabular_classification": (
        tabular_classification(
            TabularMLP(2, (3,), widths=(4,), dropout=0.1), class_weights=np.array([1.0, 2.0])
        ),
        {**TABLE, "label": np.arange(4) % 2},
    ),
    "tabular_regression": (
        tabular_regression(TabularMLP(1, (3,), widths=(4,))),
        {**TABLE, "label": NOISE["noise"][:, 0]},
    ),
    "variational": (
        variational(
            VAE(MLP((4,)), MLP((16,)), (4, 4, 1)), binarize=True, particles=2, importance=3
        ),
        PICTURES,
    ),
}


EAGER = ("regression", "language_modeling")  # it takes half of the time


@pytest.mark.parametrize("name", TASKS)
def test_every_task_keeps_the_contract(name):
    check_task(*TASKS[name], eager=name in EAGER)


# -- every way to make batches -----------------------------------------------------------------------

COLUMNS_OF = {"x": np.arange(20.0).reshape(10, 2), "label": np.arange(10) % 3}
SEQUENCE = {"values": np.arange(24.0, dtype=np.float32)}
WINDOW = (Slice("past", "values", 0, 4), Slice("future", "values", 4, 2))
SENTENCES = {"tokens": DRAW.integers(0, 9, (11, 6)), "length": np.arange(11) % 6}
TALE = DRAW.integers(0, 9, 41).astype(np.int32)
BATCHES: dict[str, tuple[Any, ...]] = {
    "train_batches": (train_batches(COLUMNS_OF, 4, 1),),
    "eval_batches": (eval_batches(COLUMNS_OF, 4),),
    "bucket_batches": (bucket_batches(SENTENCES, SENTENCES["length"], 3, pool=2),),
    "crops": (crops(TALE, 6, 5),),
    "packed_crops": (packed_crops(TALE, TALE.cumsum() // 50, 6, 5),),
    "strided": (eval_batches(strided(TALE, 6, 3), 5),),
    "tracks": (tracks(TALE, 4, 3), ("reset",)),
    "train_windows": (train_windows(SEQUENCE, WINDOW, 4, labels={"row": np.arange(19)}),),
    "eval_windows": (eval_windows(SEQUENCE, WINDOW, 4),),
    "stream": (StreamBatches(ArraySource(COLUMNS_OF), 4, 1),),
    "stream, decoded": (
        StreamBatches(ArraySource(COLUMNS_OF), 4, decode=lambda row: {"x": row["x"]}),
    ),
    "stream, a shard": (StreamBatches(ArraySource(COLUMNS_OF), 4, shard=(1, 2)),),
    "stream in order": (StreamEvalBatches(ArraySource(COLUMNS_OF), 4),),
}


@pytest.mark.parametrize("name", BATCHES)
def test_every_way_to_make_batches_keeps_the_contract(name):
    check_batches(*BATCHES[name])


# -- each rule catches what breaks it ----------------------------------------------------------------

SOUND = classification(MLP((3,)))


def applied(function, evaluating=True, training=True):
    """``SOUND`` with ``function(outputs, x)`` in place of its outputs."""

    def apply(variables, batch, key):
        outputs, updates = SOUND.apply(variables, batch, key)
        wanted = evaluating if key is None else training
        return function(outputs) if wanted else outputs, updates

    return {"apply": apply}


def scored(function):
    """``SOUND`` whose loss is ``function(outputs, mask, train)``."""

    def score(outputs, batch, train):
        return {"loss": function(outputs, batch.get("mask"), train)}

    return {"score": score}


@jax.custom_batching.custom_vmap
def lonely(x):
    return 1.0 * x


@lonely.def_vmap
def _(size, batched, x):
    return jnp.flip(x, 0), True


def rounded(outputs):
    """1/1000 is nothing beside 1 in bfloat16."""
    one = jnp.ones((), outputs.dtype)
    return outputs / ((one + 1e-3) - one)


def as_many_as_rows(key, batch):
    return {"params": {**SOUND.init(key, batch)["params"], "each": jnp.zeros(len(batch["label"]))}}


def over_light(batch):
    """A mean that the mask multiplies, of what a black picture has none of."""
    mask = batch.get("mask", jnp.ones(4))
    light = batch["image"].astype(jnp.float32).sum((1, 2, 3))
    return Mean((mask * light / light).sum(), mask.sum())


def counting(variables, batch, key):
    """Its statistics are in the precision of the day."""
    outputs, _ = SOUND.apply(variables, batch, key)
    return outputs, {"stats": {"mean": outputs.mean(0)}}


def behind_zeros():
    """Each row looks at the others, before a head that begins at zero; and statistics are counted."""

    def init(key, batch):
        return {"params": {"w": jnp.zeros((16, 3))}, "stats": {"steps": jnp.zeros(())}}

    def predict(variables, columns):
        x = columns["image"].reshape(len(columns["image"]), -1)[:, :16] / 255.0
        return (x - x.mean(0)) @ variables["params"]["w"]

    def apply(variables, batch, key):
        return predict(variables, batch), {"stats": {"steps": variables["stats"]["steps"] + 1}}

    return {"init": init, "apply": apply, "predict": predict, "check": None}


BROKEN_TASKS: dict[str, tuple[dict[str, Any], str]] = {
    "init": (
        {"init": lambda key, batch: {}},
        "what the contract says, but: .*init must return a dict",
    ),
    "apply": (
        {"apply": lambda v, b, k: SOUND.apply(v, b, k)[0]},
        r"apply must return \(outputs, updates\)",
    ),
    "score": ({"score": lambda o, b, t: {}}, "must hold 'loss' as dl.core.metrics.mean"),
    "loss": (
        scored(lambda o, m, t: mean(o.sum(-1) / 0.0, m)),
        "the loss is finite, but it is .*division by 0",
    ),
    "slope": (
        scored(lambda o, m, t: mean(jnp.sqrt(0.0 * o).sum(-1), m)),
        "the gradient is finite, but that of",
    ),
    "no slope": (
        applied(jax.lax.stop_gradient),
        "the gradient is not all zero, but it is: look for",
    ),
    "a key": (applied(lambda o: o + random.random()), "one key gives one loss, but traced twice"),
    "a key of its own": (
        applied(lambda o: o * jax.random.uniform(jax.random.key(0), o.shape), evaluating=False),
        "noise in training comes of the key, but seven keys give one loss",
    ),
    "a beginning": (
        {"init": lambda k, b: jax.tree.map(lambda x: x + random.random(), SOUND.init(k, b))},
        "one key gives one beginning, but traced twice",
    ),
    "low sums": (
        scored(lambda o, m, t: Mean(mean(o.sum(-1), m)[0].astype(jnp.float16), mean(o, m)[1])),
        "summed in float32, but loss is of float16",
    ),
    "no number": (
        {"score": lambda o, b, t: {**SOUND.score(o, b, t), "odd": mean(jnp.full(4, jnp.nan))}},
        "metrics are finite, but odd is not",
    ),
    "no answer": ({"predict": lambda v, c: None}, "predict answers, but it gives None"),
    "the first of several": ({"average": lambda several: several[0]}, "average is a mean, but"),
    "several": ({"average": lambda several: several}, r"average is a mean, but it gives \[\(2, 4"),
    "mean of other outputs": (  # each a threshold's, and not one class of all
        scored(lambda o, m, t: mean(jax.nn.softplus(o).mean(-1), m)),
        "two models that agree score as either, but .*: average is given what apply returns",
    ),
    "evaluation": (
        applied(lambda o: o * random.random(), training=False),
        "evaluation has no randomness, but",
    ),
    "jit": (
        applied(lambda o: o * (1 + isinstance(o, jax.core.Tracer)), training=False),
        "jit changes no metric",
    ),
    "mask in training": (
        scored(lambda o, m, t: mean(o.sum(-1), None if t else m)),
        "under mask 0 change nothing in training, but .*: weigh every metric by the mask",
    ),
    "mask": (
        scored(lambda o, m, t: mean(o.sum(-1), m if t else None)),
        "under mask 0 change nothing in evaluation",
    ),
    "rows": (
        applied(lambda o: o - 9 * o.mean(0), training=False),
        "under mask 0 change nothing in evaluation",
    ),
    "rows before a head of zeros": (
        behind_zeros(),
        "under mask 0 change nothing in evaluation",
    ),
    "split": (
        scored(lambda o, m, t: Mean(mean(o, m)[0] / mean(o, m)[1], jnp.float32(1))),
        "any split of a batch",
    ),
    "one row": (
        applied(lambda o: o.reshape(4, 3), training=False),
        "run on one row, without a mask, but: TypeError",
    ),
    "vmap": (applied(lonely, training=False), "vmap over variables changes no metric"),
    "no vmap": (
        applied(lambda o: jax.pure_callback(np.asarray, o, o), training=False),
        "runs under vmap over",
    ),
    "bfloat16": (
        scored(lambda o, m, t: mean(rounded(o)[:, 0], m)),
        "mixed precision keeps the loss finite",
    ),
    "columns": (
        {"columns": ("noise",)},
        "predict reads columns of the batch, but 'noise' is none: give it",
    ),
    "labels": (
        {
            "columns": (*SOUND.columns, "label"),
            "predict": lambda v, c: SOUND.predict(v, c) + c["label"][:, None],
        },
        "predict reads what apply reads, but label is read by score",
    ),
    "as many as rows": (
        {"init": as_many_as_rows},
        "init gives the same params for any number of rows, but params/each was",
    ),
    "check": (
        {"check": lambda v, b, columns: columns["absent"]},
        "check accepts the rows that it is tried on, but: KeyError: 'absent'",
    ),
    "empty rows": (
        {"score": lambda o, b, t: {**SOUND.score(o, b, t), "odd": over_light(b)}},
        "under mask 0 change nothing in evaluation, but odd/total is",
    ),
    "one answer": (
        {"predict": lambda v, c: SOUND.predict(v, c).sum()},
        r"answers row by row, but it is \[\]",
    ),
    "answers": (
        {"predict": lambda v, c: SOUND.predict(v, c) - SOUND.predict(v, c).mean(0)},
        "predict says of a row the same alone and among others",
    ),
    "ensemble": (
        {"average": lambda several: several["no"]},
        "transformations compose, but ensemble: ",
    ),
    "accumulate": (
        applied(lambda o: o.reshape(4, 3), evaluating=False),
        "compose, but accumulate: TypeError",
    ),
    "statistics": (
        {
            "init": lambda k, b: {**SOUND.init(k, b), "stats": {"mean": jnp.zeros(3)}},
            "apply": counting,
        },
        "compose, but mixed_precision: .*stats/mean was float32",
    ),
}


@pytest.mark.parametrize("name", BROKEN_TASKS)
def test_a_broken_task_is_told_its_rule(name):
    fields, message = BROKEN_TASKS[name]
    with pytest.raises(AssertionError, match=message) as told:
        check_task(dataclasses.replace(SOUND, **fields), PICTURES)
    assert "\n" not in str(told.value)


def test_columns_of_different_lengths_are_told():
    with pytest.raises(AssertionError, match="columns have one entry a row, but they have"):
        check_task(SOUND, {**PICTURES, "label": np.arange(3)})


def test_a_refusal_in_one_line_is_no_failure():
    def apply(variables, batch, key):
        if key is not None and len(batch["image"]) != 4:
            raise dl.UserError("no-micro-batches", "train without micro-batches")
        return SOUND.apply(variables, batch, key)

    check_task(dataclasses.replace(SOUND, apply=apply), PICTURES)


def wrong(good: Any, **methods: Any) -> Any:
    """``good`` batches whose class has other methods."""
    kind = type("Wrong", (type(good),), methods)
    made = kind(**{field.name: getattr(good, field.name) for field in dataclasses.fields(good)})
    if not hasattr(good, "iterate"):
        fields = [field.name for field in dataclasses.fields(good)]
        arrays = [name for name in fields if name in ("arrays", "seed")]
        rest = [name for name in fields if name not in arrays]
        jax.tree_util.register_dataclass(kind, arrays, rest)
    return made


TRAIN, EVAL = train_batches(COLUMNS_OF, 4, 1), eval_batches(COLUMNS_OF, 4)
STREAM = StreamBatches(ArraySource(COLUMNS_OF), 4, 1)


def mirrored(self, step):
    return TRAIN.indices(step)[::-1]


def as_they_were(self, step):
    return {name: column[mirrored(self, step)[::-1]] for name, column in self.arrays.items()}


def drawn(self, step):
    return np.asarray(np.random.default_rng(step).integers(0, 10, 4))


BROKEN_BATCHES: dict[str, tuple[Any, str]] = {
    "size": (wrong(TRAIN, size=0), "size is 1 or more, but it is 0"),
    "digest": (
        wrong(TRAIN, digest=lambda self: str(random.random())),
        "the digest is one string for one set",
    ),
    "random": (
        wrong(
            TRAIN, __getitem__=lambda self, step: {**TRAIN[step], "z": np.full(4, random.random())}
        ),
        r"batches.4. is the same whenever it is read, but batch/z is .*\(seed, step\) alone",
    ),
    "python": (
        wrong(TRAIN, __getitem__=lambda self, step: TRAIN[int(step)]),
        "its step traced, but: Concretization",
    ),
    "traced": (
        wrong(TRAIN, __getitem__=lambda self, step: TRAIN[step if isinstance(step, int) else 0]),
        "is the same for a traced step, but",
    ),
    "rows": (
        wrong(TRAIN, indices=mirrored, __getitem__=as_they_were),
        "indices name the rows of a batch, but row",
    ),
    "drawn": (wrong(STREAM, indices=drawn), "an epoch holds every row once, but epoch 0 holds"),
    "negative": (
        wrong(TRAIN, indices=lambda self, step: -1 - np.arange(4)),
        "indices gives a number from 0",
    ),
    "short": (
        wrong(
            EVAL,
            __getitem__=lambda self, step: {k: v[: 10 - 4 * step] for k, v in EVAL[step].items()},
        ),
        "all batches have the same columns, shapes and dtypes, but at step 2",
    ),
    "unmarked": (
        wrong(EVAL, __getitem__=lambda self, step: TRAIN[step]),
        "a batch marks its real rows, but",
    ),
    "padding": (
        wrong(
            EVAL,
            __getitem__=lambda self, step: {
                **type(EVAL).__getitem__(self, step),
                "mask": jnp.ones(4),
            },
        ),
        "evaluation sees every row once, but it sees 10 of 10, 12 times in all",
    ),
    "too few": (
        wrong(EVAL, __len__=lambda self: 2),
        "evaluation sees every row once, but it sees 8 of 10",
    ),
    "late": (
        wrong(STREAM, iterate=lambda self, start=0: STREAM.iterate(start + 1)),
        "iterate.start. gives batches",
    ),
    "shards": (
        wrong(STREAM, __getitem__=lambda self, step: STREAM[step]),
        "shards of a batch are together the whole",
    ),
}


@pytest.mark.parametrize("name", BROKEN_BATCHES)
def test_broken_batches_are_told_their_rule(name):
    batches, message = BROKEN_BATCHES[name]
    with pytest.raises(AssertionError, match=message) as told:
        check_batches(batches)
    assert "\n" not in str(told.value)
