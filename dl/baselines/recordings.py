"""Recordings by the mean and deviation of their spectrum: what any network for sounds has to be compared with."""

import jax
import numpy as np

from dl.data.splits import Columns, Splits
from dl.models.spectrograms import frame_count, frame_mask, log_mel

_HOP = 0.010
_AT_ONCE = 64


def spectrum_features(columns: Columns, rate: int, mels: int = 40) -> np.ndarray:
    """Mean and standard deviation over time of each log-mel channel, ``[rows, 2 * mels]`` float32.

    Args:
      columns: ``waveform [rows, samples]`` int16 and ``length [rows]`` in samples; rate: samples a second.
    """
    found = []
    for start in range(0, len(columns["waveform"]), _AT_ONCE):
        waveform, length = (
            columns[name][start : start + _AT_ONCE] for name in ("waveform", "length")
        )
        features = log_mel(waveform, rate=rate, mels=mels, hop=_HOP)
        frames = frame_count(length, round(0.025 * rate), round(_HOP * rate))
        real = np.asarray(frame_mask(frames, features.shape[1]))[..., None] > 0
        values = np.asarray(jax.device_get(features))
        both = (values.mean(1, where=real), values.std(1, where=real))
        found.append(np.concatenate(both, 1))
    return np.concatenate(found)


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
    model.fit(features["train"], splits.train["label"])
    return {
        f"{name}/accuracy": float(model.score(features[name], part["label"]))
        for name, part in splits.parts.items()
        if name != "train"
    }
