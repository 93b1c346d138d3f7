"""Strings of words joined from recordings."""

import jax
import jax.numpy as jnp
import numpy as np

from dl.data.transforms.recordings import join_recordings

# Word w sounds as w + 1 repeated, so that a string can be read off its samples.
LABEL = jnp.array([0, 1, 2, 3, 4, 5])
LENGTH = jnp.array([3, 5, 4, 2, 6, 3])
WAVES = jnp.where(jnp.arange(6) < LENGTH[:, None], LABEL[:, None] + 1, 0).astype(jnp.int16)
BATCH = {
    "waveform": WAVES,
    "length": LENGTH,
    "label": LABEL,
    "speaker": jnp.array([0, 0, 0, 1, 1, 1]),
}


def joined(most=4, samples=16, pause=3, seed=0):
    return jax.tree.map(
        np.asarray, join_recordings(most, samples, pause=pause)(jax.random.key(seed), BATCH)
    )


def test_every_word_of_the_label_sounds_whole_and_in_order():
    for seed in range(5):
        batch = joined(seed=seed)
        for wave, label, length in zip(
            batch["waveform"], batch["label"], batch["length"], strict=True
        ):
            words = [int(w) for w in label if w >= 0]
            expected = [w + 1 for w in words for _ in range(int(LENGTH[w]))]
            assert [int(s) for s in wave if s] == expected
            assert np.flatnonzero(wave).max() == length - 1


def test_each_string_begins_with_its_own_recording_and_keeps_its_speaker():
    batch = joined(samples=40)
    assert batch["label"][:, 0].tolist() == LABEL.tolist()
    for row, label in enumerate(batch["label"]):
        assert {int(w) // 3 for w in label if w >= 0} == {row // 3}
    assert len({tuple(label) for label in batch["label"].tolist()}) > 3


def test_labels_are_as_long_as_asked():
    counts = [int((joined(samples=60, seed=s)["label"] >= 0).sum(1).max()) for s in range(4)]
    assert max(counts) == 4
    assert (joined(most=1)["label"][:, 0] == LABEL).all()
