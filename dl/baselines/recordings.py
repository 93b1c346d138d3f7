"""Recordings by means of their spectrum: what any network for sounds has to be compared with."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.data.splits import Splits, known, pieces, row_count, shuffled, take
from dl.models.spectrograms import frame_count, frame_mask, log_mel
from dl.scores.speech import word_error

_HOP = 0.010
_AT_ONCE = 64


def spectrum_features(part: Any, rate: int, mels: int = 40) -> np.ndarray:
    """Mean and standard deviation over time of each log-mel channel, ``[rows, 2 * mels]`` float32.

    Args:
      part: ``waveform [rows, samples]`` int16 and ``length [rows]`` in samples; it may stream.
      rate: samples a second.
    """
    found = []
    for values, frames in _spectra(part, rate, mels):
        real = np.asarray(frame_mask(jnp.asarray(frames), values.shape[1]))[..., None] > 0
        both = (values.mean(1, where=real), values.std(1, where=real))
        found.append(np.concatenate(both, 1))
    return np.concatenate(found)


def _spectra(part: Any, rate: int, mels: int = 40) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """``[some rows, frames, mels]`` and how many frames of each are real, until all rows were given."""
    for piece in pieces(part, _AT_ONCE):
        features = log_mel(piece["waveform"], rate=rate, mels=mels, hop=_HOP)
        frames = frame_count(piece["length"], round(0.025 * rate), round(_HOP * rate))
        yield np.asarray(jax.device_get(features)), np.asarray(frames)


def spectrum_baseline(splits: Splits) -> dict[str, float]:
    """``validation/accuracy`` and ``test/accuracy`` of logistic regression on :func:`spectrum_features`, fitted to
    the training part; ``info.details`` has the ``rate``."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = {
        n: spectrum_features(p, splits.info.details["rate"]) for n, p in splits.parts.items()
    }
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(features["train"], known(splits.train)["label"])
    return {
        f"{name}/accuracy": float(model.score(features[name], known(part)["label"]))
        for name, part in splits.parts.items()
        if name != "train"
    }


def transcript_baselines(
    splits: Splits, join: Callable | None = None, rows: int = 2000
) -> dict[str, dict[str, float]]:
    """``token_error``, ``string_error`` and, of test, ``word_error`` of always saying the ``commonest`` training
    transcript, and of saying that of the ``nearest`` training recording, by set.

    Recordings are near whose spectra are, each cut in 20 equally long stretches, less its mean.

    Args:
      splits: recordings as :func:`spectrum_features` takes them and ``label [n, tokens]``, -1 where it has ended;
        ``info.details`` has the ``rate``, and ``tokens`` and ``between`` to spell by. A part may stream.
      join: ``(key, batch) -> batch`` that makes of training recordings what the other parts hold, such as
        strings of them.
      rows: training recordings that are compared, at most, drawn by seed.
    """
    from sklearn.neighbors import NearestNeighbors

    details = splits.info.details
    if join is not None:
        train = jax.device_get(jax.jit(join)(jax.random.key(3), splits.train))
        splits = dataclasses.replace(splits, train=train)
    some = np.sort(shuffled(row_count(splits.train), 0)[:rows])
    train = splits.train.part(some) if hasattr(splits.train, "part") else take(splits.train, some)
    known = _labels(train)
    nearest = NearestNeighbors(n_neighbors=1).fit(_stretches(train, details["rate"]))
    commonest = Counter(map(tuple, known)).most_common(1)[0][0]
    found: dict[str, dict[str, float]] = {"commonest": {}, "nearest": {}}
    for name in ("validation", "test"):
        if not (part := splits.parts.get(name)):
            continue
        truth = _labels(part)
        places = nearest.kneighbors(_stretches(part, details["rate"]), return_distance=False)[:, 0]
        for who, said in (
            ("commonest", [list(commonest)] * len(truth)),
            ("nearest", [known[place] for place in places]),
        ):
            numbers = [[" ".join(map(str, row)) for row in both] for both in (truth, said)]
            wrong = [a != b for a, b in zip(truth, said, strict=True)]
            found[who][f"{name}/token_error"] = word_error(*numbers)
            found[who][f"{name}/string_error"] = float(np.mean(wrong))
            if name == "test":
                spelt = [
                    [details["between"].join(details["tokens"][t] for t in row) for row in both]
                    for both in (truth, said)
                ]
                found[who]["test/word_error"] = word_error(*spelt)
    return found


def _labels(part: Any) -> list[list[int]]:
    """The tokens of each row; of a part that streams they are known without reading it."""
    return [row[row >= 0].tolist() for row in known(part)["label"]]


def _stretches(part: Any, rate: int, count: int = 20) -> np.ndarray:
    """``[rows, features]``: means of equal stretches of a recording's log-mel spectrum, and its length."""
    found = []
    for values, frames in _spectra(part, rate):
        for row, real in zip(values, np.maximum(frames, 1), strict=True):
            edges = np.arange(count) * real // count
            ends = np.maximum((np.arange(count) + 1) * real // count, edges + 1)
            sums = np.concatenate([np.zeros((1, row.shape[1])), row[:real].cumsum(0, np.float64)])
            means = (sums[ends] - sums[edges]) / (ends - edges)[:, None]
            found.append(np.append(means - means.mean(), 10 * np.log(real)))
    return np.stack(found)
