"""Numbers out of range are refused at the door they come in by, before anything is computed with them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.errors import UserError
from dl.core.optim import max_norm
from dl.data import splits
from dl.data import tokenizers as text
from dl.data.batches import buckets, tokens
from dl.data.batches import resident as batches
from dl.data.transforms import images as augment
from dl.data.transforms import images_with_labels as joint
from dl.data.transforms import recordings as joining
from dl.models import generation as sampling
from dl.models.attention import Attention
from dl.models.cnn import CNN
from dl.models.mlp import MLP
from dl.models.recommender import MatrixFactorization
from dl.models.rnn import RNN
from dl.models.spectrograms import spec_augment
from dl.models.transformer import Transformer
from dl.models.unet import Symmetrized, UNet
from dl.scores.ranking import rank_scores
from dl.tasks.adversarial import adversarial, players
from dl.tasks.autoencoding import gaussian_noise, masking_noise
from dl.tasks.classification import classification
from dl.tasks.ctc import decode, prefix_beam_decode
from dl.tasks.detection import detection
from dl.tasks.masked_language_modeling import masked_language_modeling
from dl.tasks.recommendation import item_ranking, rating_prediction
from dl.tasks.segmentation import segmentation, sliding_window
from dl.tasks.sequence_classification import sequence_classification
from dl.tasks.sequence_to_sequence import sequence_to_sequence
from dl.tasks.speech import speech_classification
from dl.tasks.tabular import tabular_classification
from dl.tasks.variational import gaussian, variational

NAN = float("nan")
ROWS = {"image": np.zeros((10, 4, 4, 1), np.uint8), "label": np.zeros(10, np.int32)}
TEXT = np.arange(100) % 7
MODEL, KEY = MLP((2,)), jax.random.key(0)
LOGITS = jnp.zeros((1, 5))
WORDS = ["a b c", "a b"]


def drawn(**options):
    return sampling.sample_token(KEY, LOGITS, **options)


def began(model, *shape):
    return jax.eval_shape(model.init, KEY, jnp.zeros(shape))


SHARE = (-0.1, 1.1, NAN)  # outside of [0, 1]
LESS = (-0.1, 1.0, NAN)  # outside of [0, 1)
COUNT = (0, -1, 1.5)  # no whole number above 0
SIZE = (-1, NAN)  # below 0
# What takes the number, numbers it refuses, numbers it takes.
DOORS = {
    "temperature": (lambda x: drawn(temperature=x), SIZE, (0, 0.7, 3)),
    "top_k": (lambda x: drawn(top_k=x), COUNT, (None, 1, 99)),
    "top_p": (lambda x: drawn(top_p=x), (0, *SHARE), (None, 1e-3, 1)),
    "beams": (
        lambda x: sampling.beam_search(
            lambda t, c: (LOGITS[None], c), LOGITS, (), 3, beams=x, stop=1
        ),
        COUNT,
        (),
    ),
    "beam length": (
        lambda x: sampling.beam_search(
            lambda t, c: (LOGITS[None], c), LOGITS, (), x, beams=1, stop=1
        ),
        COUNT,
        (),
    ),
    "train_batches": (lambda x: batches.train_batches(ROWS, x), (*COUNT, 11), (1, 10)),
    "eval_batches": (lambda x: batches.eval_batches(ROWS, x), COUNT, (1, 11)),
    "bucket_batches": (lambda x: buckets.bucket_batches(ROWS, range(10), x), (*COUNT, 1), (2, 10)),
    "pool": (lambda x: buckets.bucket_batches(ROWS, range(10), 2, pool=x), COUNT, (1, 99)),
    "trim": (lambda x: buckets.trim(["a"], (x,), len), COUNT, (1, 99)),
    "crop length": (lambda x: tokens.crops(TEXT, x, 2), COUNT, (1, 98)),
    "crop batch": (lambda x: tokens.crops(TEXT, 3, x), COUNT, (1, 5)),
    "stride": (lambda x: tokens.strided(TEXT, 8, x), (0, -1, 9), (None, 1, 8)),
    "strided length": (lambda x: tokens.strided(TEXT, x), COUNT, (1, 200)),
    "track length": (lambda x: tokens.tracks(TEXT, x, 2), COUNT, (1, 20)),
    "track batch": (lambda x: tokens.tracks(TEXT, 2, x), COUNT, (1, 20)),
    "held rows": (lambda x: splits.hold_out(10, x, 0), (-1, 10, -0.5, NAN), (0, 9, 0.5)),
    "folds": (lambda x: splits.folds(np.zeros(10), x), (1, 0, -2, 2.5, 11), (2, 10)),
    "words": (lambda x: text.words(WORDS, size=x), (0, -1, 7), (None, 8)),
    "subwords": (lambda x: text.train_subwords(WORDS, "bpe", x), (0, -1, 7), ()),
    "padding": (augment.random_crop, (-1, 0.5), (0, 2)),
    "flip": (augment.random_flip, SHARE, (0, 1)),
    "cutout": (augment.cutout, (0, -1, NAN), (1, 3)),
    "mixup": (lambda x: augment.mixup(x, 3), (0, *SIZE), (0.2,)),
    "cutmix": (lambda x: augment.cutmix(x, 3), (0, *SIZE), (0.2,)),
    "brightness": (augment.color_jitter, SHARE, (0, 1)),
    "saturation": (lambda x: augment.color_jitter(saturation=x), SHARE, (0, 1)),
    "chance": (lambda x: augment.chance(augment.cutout(1), x), SHARE, (0, 1)),
    "jitter": (lambda x: augment.jitter(x, 0.0), SIZE, (0, 2)),
    "flips": (joint.random_flips, SHARE, (0, 1)),
    "tile": (lambda x: joint.random_tile(x, 4), COUNT, (1,)),
    "elastic": (joint.elastic, SIZE, (0, 8.0)),
    "zoom": (joint.random_scale, (0, -1, NAN), (0.5,)),
    "zoom out": (lambda x: joint.random_scale(0.7, x), (0.5, NAN), (0.7, 2)),
    "visible": (lambda x: joint.random_scale(visible=x), SHARE, (0, 1)),
    "most": (lambda x: joining.join_recordings(x, 100), COUNT, (1,)),
    "label smoothing": (lambda x: classification(MODEL, label_smoothing=x), LESS, (0, 0.9)),
    "of tables": (lambda x: tabular_classification(MODEL, label_smoothing=x), LESS, (0, 0.9)),
    "of speech": (lambda x: speech_classification(MODEL, len, label_smoothing=x), LESS, (0, 0.9)),
    "band": (
        lambda x: spec_augment(KEY, jnp.zeros((1, 9, 4)), jnp.array([9]), band_width=x),
        SIZE,
        (0, 8),
    ),
    "symmetries": (
        lambda x: began(Symmetrized(UNet(2, (4,)), x), 1, 8, 8, 1),
        (*COUNT, 9),
        (1, 8),
    ),
    "word dropout": (lambda x: sequence_classification(MODEL, word_dropout=x), LESS, (0, 0.9)),
    "hidden share": (lambda x: masked_language_modeling(MODEL, 20, rate=x), (0, *SHARE), (0.15, 1)),
    "written": (lambda x: sequence_to_sequence(MODEL, x), COUNT, (1,)),
    "beams kept": (lambda x: sequence_to_sequence(MODEL, 3, beams=x), COUNT, (1, 5)),
    "beta": (lambda x: variational(MODEL, beta=x), SIZE, (0, 4)),
    "particles": (lambda x: variational(MODEL, particles=x), COUNT, (1, 5)),
    "importance": (lambda x: variational(MODEL, importance=x), (-1, 0.5), (0, 5)),
    "deviation": (gaussian, (0, *SIZE), (0.1,)),
    "noise": (gaussian_noise, SIZE, (0, 0.5)),
    "masking": (masking_noise, SHARE, (0, 1)),
    "penalty": (lambda x: adversarial(MODEL, gradient_penalty=x), SIZE, (0, 10)),
    "of ratings": (
        lambda x: rating_prediction(MatrixFactorization(2, 2), penalty=x),
        SIZE,
        (0, 1),
    ),
    "negatives": (lambda x: item_ranking(MODEL, negatives=x), COUNT, (1, 9)),
    "ranked": (lambda x: rank_scores(np.arange(3), x), COUNT, (1, 10)),
    "critic steps": (lambda x: players(None, None, critic_steps=x), COUNT, ()),
    "overlap": (lambda x: detection(MODEL, (8,), overlap=x), SHARE, (0, 1)),
    "detections": (lambda x: detection(MODEL, (8,), most=x), COUNT, (1,)),
    "dice": (lambda x: segmentation(MODEL, 2, dice=x), SIZE, (0, 1)),
    "segments": (lambda x: segmentation(MODEL, x), (1, *COUNT), (2,)),
    "window": (lambda x: sliding_window(None, None, x), COUNT, ()),
    "window overlap": (lambda x: sliding_window(None, None, 8, overlap=x), LESS, ()),
    "beam": (lambda x: prefix_beam_decode(np.zeros((2, 3)), x), COUNT, (1, 2)),
    "decoding": (lambda x: decode(jnp.zeros((1, 2, 3)), jnp.array([2]), x), COUNT, (1, 2)),
    "max norm": (max_norm, (0, *SIZE), (3,)),
    "layers": (lambda x: began(Transformer(8, x, 2), 1, 3, 8), COUNT, (1,)),
    "heads": (lambda x: began(Attention(x), 1, 3, 8), COUNT, (2,)),
    "kv heads": (lambda x: began(Attention(2, x), 1, 3, 8), COUNT, (None, 1)),
    "features": (lambda x: began(RNN(x), 1, 3, 8), COUNT, (4,)),
    "recurrent layers": (lambda x: began(RNN(4, layers=x), 1, 3, 8), COUNT, (2,)),
    "width": (lambda x: began(MLP((x, 2)), 1, 8), COUNT, (4,)),
    "channels": (lambda x: began(CNN(2, (x,)), 1, 8, 8, 1), COUNT, (4,)),
    "depth": (lambda x: began(CNN(2, (4,), x), 1, 8, 8, 1), COUNT, (1,)),
    "patch": (lambda x: began(UNet(2, (4,), patch=x), 1, 8, 8, 1), (0, -1), (2,)),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_door_takes_what_is_in_range_and_refuses_what_is_not(door):
    enter, refused, taken = DOORS[door]
    for value in refused:
        with pytest.raises(UserError) as told:
            enter(value)
        assert told.value.code in ("range", "batch-size-impossible", "hold-out-impossible")
    for value in taken:
        enter(value)


TRACED = ("temperature", "top_p", "label smoothing", "beta", "noise", "mixup", "flip", "deviation")


@pytest.mark.parametrize("door", TRACED)
def test_what_a_sweep_traces_comes_in(door):
    def program(x):
        DOORS[door][0](x)
        return x

    jax.jit(program)(0.5)


class Small(nn.Module):
    """A language model whose next token is the last one; no state."""

    def initial_carry(self, batch, length):
        return ()

    @nn.compact
    def __call__(self, tokens, carry=None):
        return jax.nn.one_hot(tokens, 5), carry


@pytest.mark.parametrize(
    "options",
    [
        {"length": 0},
        {"length": -3},
        {"top_k": 0},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"temperature": -1.0},
        {"temperature": NAN},
    ],
    ids=str,
)
def test_generate_refuses(options):
    prompt = jnp.zeros((1, 2), jnp.int32)
    with raises("range", f"{next(iter(options))} must be"):
        sampling.generate(Small(), {}, prompt, **{"length": 3, "key": KEY, **options})


def test_generate_refuses_an_empty_prompt():
    with raises("prompt-empty"):
        sampling.generate(Small(), {}, jnp.zeros((1, 0), jnp.int32), 3, key=KEY)
