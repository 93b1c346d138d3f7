"""One Transformer (Vaswani et al. 2017), from which encoders, decoders and both together are made."""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import UserError, bounded
from dl.models.attention import Attention, Cache, Rope
from dl.models.experts import Experts
from dl.models.layers import (
    Activation,
    Dense,
    Dropout,
    LayerNorm,
    recomputed,
    remat_policy,
)


class _Architecture(nn.Module):
    """What a layer and a stack of layers are described by; see :class:`Transformer`."""

    width: int
    layers: int
    heads: int
    kv_heads: int | None = None
    hidden: int | None = None
    activation: Activation = nn.gelu
    gated: bool = False
    mixer: Callable[..., nn.Module] | None = None
    norm: Callable[..., nn.Module] = LayerNorm
    norm_first: bool = True
    rope: float | Rope | None = None
    bias: bool | Literal["attention", "qkv"] = True
    causal: bool = False
    cross: bool = False
    experts: int = 0
    dropout: float | jax.Array = 0.0
    head_dim: int | None = None
    head_norm: bool = False


class _Shared(NamedTuple):
    """What every layer sees alike: masks ``[batch, 1, 1 or time, source]``, memory, cache position."""

    mask: jax.Array | None
    memory: jax.Array | None
    memory_mask: jax.Array | None
    used: jax.Array | None


class _Block(_Architecture):
    """Self-attention, attention to a memory where there is one, feed-forward; each with a residual."""

    train: bool = False

    @nn.compact
    def __call__(self, carry, inputs, shared: _Shared):
        x, *stored = carry  # stored: the cache's keys and values of all layers, or nothing
        layer, known = inputs
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        # Residual branches begin small, so that the sum over the depth does not grow (GPT-2).
        small = nn.initializers.variance_scaling(0.5 / self.layers, "fan_in", "normal")

        def residual(x, name, branch):
            norm = self.norm(name=f"{name}_norm")
            dropout = Dropout(self.dropout)
            if self.norm_first:
                return x + dropout(branch(norm(x)), train=self.train)
            return norm(x + dropout(branch(x), train=self.train))

        def attention(name, **options):
            bias = True if self.bias == "attention" else self.bias
            projections = (self.heads, self.kv_heads, options.pop("rope", None), bias, start, small)
            options["head_norm"] = self.norm if self.head_norm else None
            return Attention(*projections, self.head_dim, name=name, **options)

        def attend(y):
            nonlocal stored
            cache = (*stored, shared.used) if stored else None
            options = {"mask": shared.mask, "causal": self.causal, "cache": cache, "layer": layer}
            if self.mixer is None:
                module = attention("attention", rope=self.rope)
            else:
                module = self.mixer(kernel_init=start, out_init=small, name="mixer")
            y, cache, _ = module(y, **options)
            stored = list(cache[:2]) if cache else []
            return y

        def recall(y):
            nonlocal known
            y, _, known = attention("memory")(
                y, shared.memory, mask=shared.memory_mask, known=known
            )
            return y

        def feed_forward(y):
            hidden, bias = self.hidden or 4 * self.width, self.bias is True
            if self.experts:
                scale = 0.5 / self.layers
                mixed = Experts(
                    self.experts,
                    hidden,
                    self.activation,
                    self.gated,
                    out_scale=scale,
                    name="experts",
                )
                return mixed(y, train=self.train)
            y_in = Dense(hidden * (1 + self.gated), bias, kernel_init=start, name="in")(y)

            def activate(y):
                if not self.gated:
                    return self.activation(y)
                gate, y = jnp.split(y, 2, axis=-1)
                return self.activation(gate) * y

            y_in = recomputed(activate)(y_in)
            return Dense(self.width, bias, kernel_init=small, name="out")(y_in)

        x = residual(x, "attention", attend)
        if self.cross:
            x = residual(x, "memory", recall)
        x = residual(x, "feed_forward", feed_forward)
        # The memory's keys and values are only worth keeping where a cache asks for them.
        return (x, *stored), known if stored else None


class Transformer(_Architecture):
    """A stack of layers on vectors ``[batch, time, width]``, with a norm after the last.

    Attributes:
      width, layers, heads: as usual; kv_heads: for grouped-query attention (None: as many as heads).
      hidden: width inside the feed-forward, by default four times the width; activation there.
      gated: multiply the activation by a second projection: with ``nn.silu`` this is SwiGLU (Shazeer
        2020), with ``nn.gelu`` GEGLU; ``hidden`` of 8 / 3 of the width then costs as much as ungated.
      mixer: what stands in self-attention's place, such as :class:`dl.models.mamba.Mamba`, or None.
      norm: ``LayerNorm`` or ``RMSNorm`` of :mod:`dl.models.layers`, or a ``partial`` of one with another
        epsilon; norm_first: before each branch (pre-norm, Xiong et al. 2020) or after each sum, as
        first published.
      rope: base of rotary positions (10,000 as published) or a :class:`~dl.models.attention.Rope`, or
        None where positions come otherwise.
      bias: of the linear layers; ``'attention'`` of those in attention alone, ``'qkv'`` of those of queries,
        keys and values alone (Qwen2).
      causal: every place sees only itself and what is before.
      cross: every layer also attends to a memory.
      experts: feed-forward networks of a layer, of which each token takes two, without ``bias``
        (:class:`dl.models.experts.Experts`); 0 for one that all take.
      dropout: rate on every branch and on the input; may be traced.
      head_dim: features of a head (None: ``width / heads``).
      head_norm: a ``norm`` of every query's and key's head (Henry et al. 2020, "Query-key normalization").
      remat: compute each layer again in the backward pass instead of keeping its inner values: True,
        or a policy of ``jax.checkpoint_policies`` that says what to keep.
      scan: one compiled layer in a loop, with parameters ``[layers, ...]``: compile time does not grow
        with depth. Not the same parameter tree as without.
    """

    remat: bool | Callable = False
    scan: bool = False

    def initial_cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``length`` tokens."""
        if self.mixer is not None:
            return self.mixer(parent=None).initial_cache(self.layers, batch, self.width)
        heads = self.kv_heads or self.heads
        dim = self.head_dim or self.width // self.heads
        return Cache.empty(self.layers, batch, length, heads, dim)

    @nn.compact
    def __call__(
        self, x, *, mask=None, memory=None, memory_mask=None, cache=None, train: bool = False
    ):
        """``[batch, time, width] -> ([batch, time, width], cache)``.

        Args:
          mask: ``[batch, time]``, 1 on real places, or boolean ``[batch, 1, time, time]``; what is
            False is not attended to. Not with a cache.
          memory: ``[batch, source, width]``, with its ``memory_mask [batch, source]``.
          cache: of the tokens before, from :meth:`initial_cache` or an earlier call; the memory is
            kept in it too, so that only the first call needs one.
        """
        bounded("layers", self.layers, at_least=1, whole=True)
        if self.cross and memory is None and (cache is None or cache.memory is None):
            raise UserError("cross-without-memory", "a Transformer with cross=True needs a memory")
        stored: tuple = ()
        known = used = None
        if cache is not None:
            if not self.causal:
                raise UserError("not-causal", "only a causal Transformer can go on from a cache")
            stored, used = (cache.key, cache.value), cache.used
            if cache.memory is not None:
                known, memory_mask = cache.memory[:2], cache.memory[2][0]
        shared = _Shared(_wide(mask), memory, _wide(memory_mask), used)
        carry = (Dropout(self.dropout)(x, train=train), *stored)

        fields = {field.name for field in dataclasses.fields(_Architecture)} - {"parent", "name"}
        design = {name: getattr(self, name) for name in fields} | {"train": train}
        block = _Block
        if policy := remat_policy(self.remat):
            block = nn.remat(_Block, prevent_cse=not self.scan, policy=policy)
        if self.scan:
            scanned = nn.scan(
                block,
                variable_axes={"params": 0, "balance": 0, "intermediates": 0},
                split_rngs={"params": True, "dropout": True},
                in_axes=(0, nn.broadcast),
                length=self.layers,
            )
            layers = (jnp.arange(self.layers), known)
            carry, kept = scanned(**design, name="layers")(carry, layers, shared)
        else:
            each = []
            for layer in range(self.layers):
                one = jax.tree.map(lambda a, layer=layer: a[layer], known)
                carry, out = block(**design, name=f"layer_{layer}")(carry, (layer, one), shared)
                each.append(out)
            kept = jax.tree.map(lambda *a: jnp.stack(a), *each) if known is None else known
        x = carry[0]
        if self.norm_first:
            x = self.norm(name="norm")(x)
        if cache is None:
            return x, None
        if self.cross:
            if memory_mask is None:
                memory_mask = jnp.ones(kept[0].shape[1:3], bool)
            kept = (*kept, memory_mask[None])
        return x, cache.after(carry[1:], x.shape[1], kept)


def _wide(mask):
    """A mask of places as one of scores."""
    return mask[:, None, None, :] > 0 if mask is not None and mask.ndim == 2 else mask


def sinusoids(length: int, width: int) -> jax.Array:
    """Fixed position codes ``[length, width]`` (Vaswani et al. 2017)."""
    rate = 10000.0 ** (-jnp.arange(0, width, 2) / width)
    angle = jnp.arange(length)[:, None] * rate
    return jnp.stack([jnp.sin(angle), jnp.cos(angle)], axis=-1).reshape(length, width)
