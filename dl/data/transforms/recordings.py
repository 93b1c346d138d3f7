"""Strings of words made of recordings of single words, inside the compiled step."""

import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.core.random import example_keys
from dl.data.transforms.images import Transform


def join_recordings(most: int, samples: int, *, pause=800) -> Transform:
    """Recordings of single words ``label [batch]`` joined to strings of 1 ... ``most`` of them.

    Each example begins with its own recording; the others are drawn from the batch, from the same
    ``speaker [batch]`` where that column is there, with pauses of up to ``pause`` samples between.
    Words that would end after ``samples`` are left out, of the label too, so nothing is cut short.

    Gives ``waveform [batch, samples]``, ``length [batch]`` and ``label [batch, most]``, -1 where the
    string has ended. A fixed set of strings, to evaluate on, is this applied once, with a fixed key,
    to all its recordings.
    """
    bounded("most", most, at_least=1, whole=True)
    bounded("samples", samples, at_least=1, whole=True)
    bounded("pause", pause, at_least=0)

    def transform(key, batch):
        waveform, length, label = (batch[name] for name in ("waveform", "length", "label"))
        if waveform.shape[1] > samples:
            raise UserError(
                "recording-too-long",
                f"recordings of {waveform.shape[1]} samples do not fit {samples}: give "
                f"samples={waveform.shape[1]} or more",
            )
        voice = batch.get("speaker", jnp.zeros_like(label))

        def one(key, row):
            count_key, word_key, pause_key = jax.random.split(key, 3)
            count = jax.random.randint(count_key, (), 1, most + 1)
            odds = jnp.where(voice == voice[row], 0.0, -jnp.inf)
            words = jax.random.categorical(word_key, odds, shape=(most,)).at[0].set(row)
            silence = jax.random.uniform(pause_key, (most,)) * pause
            spans = length[words] + silence.astype(length.dtype)
            starts = jnp.cumsum(spans) - spans
            ends = starts + length[words]
            kept = (jnp.arange(most) < count) & (ends <= samples)
            # Sample t belongs to the last word that starts at or before it.
            time = jnp.arange(samples)
            word = (jnp.where(kept, starts, samples)[None] <= time[:, None]).sum(1) - 1
            place = time - starts[word]
            heard = place < length[words[word]]
            sound = waveform[words[word], jnp.minimum(place, waveform.shape[1] - 1)]
            return {
                "waveform": jnp.where(heard, sound, jnp.zeros((), sound.dtype)),
                "length": jnp.max(jnp.where(kept, ends, 0)),
                "label": jnp.where(kept, label[words], -1),
            }

        size = len(label)
        joined = jax.vmap(one)(example_keys(key, size), jnp.arange(size))
        rest = {name: value for name, value in batch.items() if name not in ("speaker", "index")}
        return {**rest, **joined}

    return transform
