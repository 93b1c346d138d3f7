"""Writing token rows with a model: sampling, greedy and beam search, compiled once for each length.

Every function rests on one kind of step, ``(tokens [batch, time], carry) -> (logits [batch, time,
vocabulary], carry)``, where the carry is a recurrent state or a key-value cache whose leaves are
``[layers, batch, ...]`` (scalars aside).
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.core.random import purpose_key

Step = Callable[[jax.Array, Any], tuple[jax.Array, Any]]
HIDDEN = -1e30


def sample_token(
    key: jax.Array,
    logits: jax.Array,
    *,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> jax.Array:
    """One token a row of ``logits [batch, vocabulary]``: int32 ``[batch]``.

    Args:
      temperature: divides the logits; 0 takes the likeliest token.
      top_k: draw only from that many likeliest tokens (Fan et al. 2018).
      top_p: draw only from the fewest likeliest tokens that hold this probability together (Holtzman
        et al. 2020, nucleus sampling).

    Raises:
      UserError: a temperature below 0, a ``top_k`` below 1, a ``top_p`` outside (0, 1].
    """
    check_sampling(temperature, top_k, top_p)
    logits = logits.astype(jnp.float32)
    best = jnp.argmax(logits, axis=-1)
    scaled = logits / jnp.maximum(temperature, 1e-6)
    if top_k is not None:
        lowest = jax.lax.top_k(scaled, min(top_k, scaled.shape[-1]))[0][:, -1:]
        scaled = jnp.where(scaled < lowest, HIDDEN, scaled)
    if top_p is not None:
        ranked = jnp.sort(scaled, axis=-1, descending=True)
        shares = jax.nn.softmax(ranked, axis=-1)
        # A token stays if those before it hold less than top_p; the likeliest always does.
        kept = (jnp.cumsum(shares, axis=-1) - shares < top_p) | (jnp.arange(shares.shape[-1]) == 0)
        lowest = jnp.min(jnp.where(kept, ranked, jnp.inf), axis=-1, keepdims=True)
        scaled = jnp.where(scaled < lowest, HIDDEN, scaled)
    drawn = jax.random.categorical(key, scaled, axis=-1)
    return jnp.where(temperature > 0, drawn, best).astype(jnp.int32)


def check_sampling(
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
) -> None:
    """Raise UserError for options that :func:`sample_token` cannot draw by; for a script to ask before
    it trains."""
    bounded("temperature", temperature, at_least=0)
    bounded("top_k", top_k, at_least=1, whole=True)
    bounded("top_p", top_p, above=0, at_most=1)


class Writing(NamedTuple):
    """A text in the making: what the next token follows from.

    Attributes:
      carry: the model's; logits: ``[batch, vocabulary]`` of the next token.
      ended: ``[batch]``, whether the row has written its stop token; written: tokens so far.
    """

    carry: Any
    logits: jax.Array
    ended: jax.Array
    written: jax.Array


def extend(
    step: Step,
    writing: Writing,
    length: int,
    choose: Callable[[jax.Array, jax.Array], jax.Array],
    *,
    stop: int | None = None,
    pad: int = 0,
) -> tuple[jax.Array, Writing]:
    """``length`` more tokens, int32 ``[batch, length]``: ``pad`` after each row's ``stop`` token.

    ``choose(logits [batch, vocabulary], count)`` gives the next token of each row. The loop ends early
    where all rows have.
    """
    batch = writing.logits.shape[0]
    begun = writing.written

    def unfinished(carry):
        _, writing = carry
        return (writing.written - begun < length) & ~writing.ended.all()

    def body(carry):
        tokens, (carry, logits, ended, count) = carry
        token = jnp.where(ended, pad, choose(logits, count)).astype(jnp.int32)
        tokens = jax.lax.dynamic_update_slice(tokens, token[:, None], (0, count - begun))
        if stop is not None:
            ended = ended | (token == stop)
        logits, carry = step(token[:, None], carry)
        return tokens, Writing(carry, logits[:, -1].astype(jnp.float32), ended, count + 1)

    tokens = jnp.full((batch, length), pad, jnp.int32)
    return jax.lax.while_loop(unfinished, body, (tokens, writing))


def begin(logits: jax.Array, carry: Any) -> Writing:
    """The writing after a prompt's ``logits [batch, time, vocabulary]``."""
    ended = jnp.zeros(logits.shape[0], bool)
    return Writing(carry, logits[:, -1].astype(jnp.float32), ended, jnp.zeros((), jnp.int32))


@functools.partial(jax.jit, static_argnames=("model", "room"))
def _read(model, variables, prompt, room):
    """The writing after ``prompt``, with room for so many tokens in all."""
    carry = model.initial_carry(prompt.shape[0], room)
    return begin(*model.apply(variables, prompt, carry=carry))


@functools.partial(jax.jit, static_argnames=("model", "length", "top_k", "stop", "pad"))
def _write(model, variables, writing, key, temperature, top_p, length, top_k, stop, pad):
    def choose(logits, count):
        options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
        return sample_token(jax.random.fold_in(key, count), logits, **options)

    def step(tokens, carry):
        return model.apply(variables, tokens, carry=carry)

    return extend(step, writing, length, choose, stop=stop, pad=pad)


def stream(
    model: nn.Module,
    variables: dict,
    prompt: jax.Array,
    length: int,
    *,
    key: jax.Array,
    chunk: int = 16,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
    stop: int | None = None,
    pad: int = 0,
) -> Iterator[jax.Array]:
    """The tokens of :func:`generate` in pieces ``[batch, chunk]`` (the last may be shorter), each as
    soon as it is there. The tokens do not depend on ``chunk``."""
    if prompt.ndim != 2 or prompt.shape[1] < 1:
        raise UserError(
            "prompt-empty", f"a prompt is [batch, time] with a token or more; got {prompt.shape}"
        )
    check_sampling(temperature, top_k, top_p)
    bounded("length", length, at_least=1, whole=True)
    bounded("chunk", chunk, at_least=1, whole=True)
    variables = {name: value for name, value in variables.items() if name != "carry"}
    key = purpose_key(key, "sample")
    writing = _read(model, variables, prompt, prompt.shape[1] + length)
    for start in range(0, length, chunk):
        size = min(chunk, length - start)
        tokens, writing = _write(
            model, variables, writing, key, temperature, top_p, size, top_k, stop, pad
        )
        yield tokens
        if stop is not None and bool(writing.ended.all()):
            return


def generate(
    model: nn.Module,
    variables: dict,
    prompt: jax.Array,
    length: int,
    *,
    key: jax.Array,
    temperature: float | jax.Array = 1.0,
    top_k: int | None = None,
    top_p: float | jax.Array | None = None,
    stop: int | None = None,
    pad: int = 0,
) -> jax.Array:
    """Texts that go on from prompts, one token at a time: int32 ``[batch, length]``.

    Args:
      model: a language model, as :func:`dl.tasks.language_modeling.language_modeling` takes one.
      variables: its variables, as a run has them.
      prompt: int ``[batch, time]``, a token or more.
      temperature, top_k, top_p: see :func:`sample_token`; temperature 0 is greedy.
      stop: the token after which a row is done and filled with ``pad``; None for none.
    """
    (tokens,) = stream(
        model,
        variables,
        prompt,
        length,
        key=key,
        chunk=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        stop=stop,
        pad=pad,
    )
    return tokens


class _Beams(NamedTuple):
    """Live hypotheses ``[batch, beams, ...]``, finished ones, and the position."""

    tokens: jax.Array
    total: jax.Array
    done_tokens: jax.Array
    done_score: jax.Array
    done_count: jax.Array
    logits: jax.Array
    carry: Any
    place: jax.Array


def _repeated(tokens: jax.Array, place: jax.Array, size: int, vocabulary: int) -> jax.Array:
    """Which token at ``place`` of ``tokens [..., length]`` would make ``size`` of them that are there already:
    bool ``[..., vocabulary]``."""
    length = tokens.shape[-1]
    starts = jnp.arange(length - size + 1)
    ended = jax.lax.dynamic_slice_in_dim(
        jnp.pad(tokens, [(0, 0)] * (tokens.ndim - 1) + [(size - 1, 0)], constant_values=-1),
        place,
        size - 1,
        axis=-1,
    )  # the last size - 1 tokens
    same = starts + size - 1 < place
    for n in range(size - 1):
        same = same & (tokens[..., n : n + len(starts)] == ended[..., n, None])
    last = jax.nn.one_hot(tokens[..., size - 1 :], vocabulary, dtype=bool)
    return (same[..., None] & last).any(-2)


def beam_search(
    step: Step,
    logits: jax.Array,
    carry: Any,
    length: int,
    *,
    beams: int,
    stop: int,
    length_penalty: float | jax.Array = 0.6,
    no_repeat: int = 0,
    pad: int = 0,
) -> tuple[jax.Array, jax.Array]:
    """The best row found by keeping the ``beams`` likeliest beginnings at every step.

    A hypothesis that writes ``stop`` while among the best ``beams`` is finished; a row is done when so
    many are. They compete by log-probability / ((5 + tokens) / 6) ** length_penalty (Wu et al. 2016).
    One beam is greedy search.

    Args:
      logits: ``[batch, vocabulary]`` of the first token; carry: after what came before.
      length: most tokens to write.
      no_repeat: no hypothesis writes so many tokens a second time in the same order (Paulus et al. 2017); 0 lets
        all repeat.

    Returns:
      Tokens int32 ``[batch, length]``, ``stop`` included and then ``pad``; and their scores ``[batch]``.
    """
    bounded("beams", beams, at_least=1, whole=True)
    bounded("length", length, at_least=1, whole=True)
    bounded("no_repeat", no_repeat, at_least=0, whole=True)
    batch, vocabulary = logits.shape
    rows = jnp.arange(batch)[:, None]

    def spread(leaf):
        return jnp.repeat(leaf, beams, axis=1) if leaf.ndim > 1 else leaf

    def choose(leaf, source):
        # source [batch, beams]: which of its own row's beams each new beam goes on from.
        if leaf.ndim < 2:
            return leaf
        return jnp.take(leaf, (rows * beams + source).reshape(-1), axis=1)

    def penalized(total, tokens):
        return total / ((5.0 + tokens) / 6.0) ** length_penalty

    def unfinished(state: _Beams):
        return (state.place < length) & (state.done_count < beams).any()

    def body(state: _Beams) -> _Beams:
        scores = jax.nn.log_softmax(state.logits).reshape(batch, beams, vocabulary)
        if 0 < no_repeat <= length:
            again = _repeated(state.tokens, state.place, no_repeat, vocabulary)
            scores = jnp.where(again.at[..., stop].set(False), HIDDEN, scores)
        scores = (state.total[..., None] + scores).reshape(batch, -1)
        # Twice as many candidates, since up to half of them may be stops.
        total, index = jax.lax.top_k(scores, min(2 * beams, scores.shape[1]))
        source, token = index // vocabulary, index % vocabulary
        tokens = state.tokens[rows, source].at[..., state.place].set(token)

        stops = (token == stop) & (jnp.arange(token.shape[1]) < beams) & (total > HIDDEN / 2)
        stops = stops & (state.done_count < beams)[:, None]  # a row that is done stays as it is
        score = jnp.where(stops, penalized(total, state.place + 1.0), HIDDEN)
        pool_score = jnp.concatenate([state.done_score, score], axis=1)
        pool_tokens = jnp.concatenate([state.done_tokens, tokens], axis=1)
        done_score, best = jax.lax.top_k(pool_score, beams)

        live, kept = jax.lax.top_k(jnp.where(token == stop, HIDDEN, total), beams)
        source, token = (jnp.take_along_axis(x, kept, axis=1) for x in (source, token))
        carry = jax.tree.map(lambda leaf: choose(leaf, source), state.carry)
        logits, carry = step(token.reshape(-1, 1), carry)
        return _Beams(
            tokens[rows, kept],
            live,
            pool_tokens[rows, best],
            done_score,
            state.done_count + stops.sum(1),
            logits[:, -1].astype(jnp.float32),
            carry,
            state.place + 1,
        )

    empty = jnp.full((batch, beams, length), pad, jnp.int32)
    # All beams begin alike, so only the first may compete at first.
    first = jnp.where(jnp.arange(beams) == 0, 0.0, HIDDEN) * jnp.ones((batch, 1))
    state = _Beams(
        empty,
        first,
        empty,
        jnp.full((batch, beams), HIDDEN),
        jnp.zeros(batch, jnp.int32),
        jnp.repeat(logits.astype(jnp.float32), beams, axis=0),
        jax.tree.map(spread, carry),
        jnp.zeros((), jnp.int32),
    )
    state = jax.lax.while_loop(unfinished, body, state)
    finished = state.done_count > 0
    tokens = jnp.where(finished[:, None], state.done_tokens[:, 0], state.tokens[:, 0])
    score = jnp.where(finished, state.done_score[:, 0], penalized(state.total[:, 0], length))
    return tokens, score
