"""Scaled dot-product attention, one function for every platform (Vaswani et al. 2017)."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax.sharding import PartitionSpec as P

from dl.core.errors import UserError, bounded
from dl.core.target import ROWS, SEQUENCE, Target, cut_along_time, hold, pieces, target
from dl.models.layers import Dense, flat, held
from dl.models.ring import HIDDEN, ring_attention


def attention(q, k, v, *, bias=None, mask=None, causal: bool = False, scale: float | None = None):
    """``softmax(scale * q k^T + bias) v``, by whatever the platform does fastest.

    On GPU, half precision takes cuDNN's flash attention, but in a deterministic run; on TPU, long texts take the
    splash kernel; on CPU, :func:`columns_attention`; all else XLA's own. On a mesh that cuts sequences and not
    enough heads, keys and values go round it (:mod:`dl.models.ring`). The softmax is in float32 everywhere.

    Args:
      q: ``[batch, time, heads, dim]``.
      k, v: ``[batch, source, kv_heads, dim]``; ``kv_heads`` must divide ``heads``, and each serves
        ``heads / kv_heads`` neighbouring heads of q (Ainslie et al. 2023, grouped-query attention).
      bias: added to the scores, broadcastable to ``[batch, heads, time, source]``.
      mask: boolean, the same shape; False hides. A query that sees nothing gets something finite.
      causal: a query sees only keys at its own place and before.
      scale: ``1 / sqrt(dim)`` by default.

    Returns:
      Like q.
    """
    if q.shape[2] % k.shape[2]:
        raise UserError(
            "heads-uneven", f"{q.shape[2]} heads cannot share {k.shape[2]} key-value heads evenly"
        )
    where, masked = target(), bias is not None or mask is not None
    options: Any = {"causal": causal, "scale": scale}
    if bias is None and _lie(q, k, mask)[0]:
        return ring_attention(q, k, v, mask=mask, **options)
    if where.platform == "cpu" and q.shape[1] > 1:
        return columns_attention(q, k, v, bias=bias, mask=mask, **options)
    if where.platform == "gpu" and _cudnn_takes(q, k, where):
        return _cudnn_attention(q, k, v, bias, mask, **options)
    if where.platform == "tpu" and not masked and _splash_takes(q, k, where):
        return _splash_attention(q, k, v, **options)
    wide, given = _products_in(q.dtype, where), q.dtype
    q, k, v = (x.astype(wide) for x in (q, k, v))
    out = jax.nn.dot_product_attention(q, k, v, bias, mask, is_causal=causal, scale=scale)
    return out.astype(given)


def _products_in(dtype, where: Target):
    """The dtype that XLA's attention computes in. JAX asks for products of bfloat16 by name, which the compiler
    refuses for NVIDIA's cards before the A100; all others there it makes in float32 by itself."""
    if where.platform != "gpu" or dtype != jnp.bfloat16:
        return dtype
    capability = where.capability or _capability_here()
    return jnp.float32 if (0, 0) < capability < (8, 0) else dtype


def _lie(q, k, mask) -> tuple[str | None, str | tuple[str, ...]]:
    """The axes of the mesh that cut time and heads within attention.

    Where the mesh cuts sequences, a device takes some heads of the whole instead (Jacobs et al. 2023,
    "DeepSpeed Ulysses"), so that the platform's own kernel does it; where there are too few heads, or only
    some devices' worth of them, keys and values go round.
    """
    mesh = target().mesh
    if mesh is None or not cut_along_time(q):
        return None, "tensor"
    both = (SEQUENCE, "tensor")
    if q.shape[2] % pieces(mesh, both) == 0 and k.shape[2] % pieces(mesh, both) == 0:
        return None, both
    keys_alone = mask is None or (mask.ndim == 4 and mask.shape[1] == mask.shape[2] == 1)
    ring = keys_alone and q.shape[1] == k.shape[1] and q.shape[0] % pieces(mesh) == 0
    return (SEQUENCE if ring else None), "tensor"


def _cudnn_takes(q, k, where: Target) -> bool:
    """Whether cuDNN's flash attention can do this; a single query gains nothing from it."""
    capability = where.capability or _capability_here()
    return (
        not where.deterministic  # jaxlib 0.11.2 on an H100 loses the kernel's plan then: an IndexError
        and q.dtype in (jnp.bfloat16, jnp.float16)
        and q.shape[1] > 1
        and q.shape[3] % 8 == 0
        and q.shape[3] <= (256 if capability >= (9, 0) else 128)
        and capability >= (8, 0)
    )


def _capability_here() -> tuple[int, ...]:
    """CUDA's compute capability of the card that is here; ``(0, 0)`` of another maker's."""
    found = getattr(jax.local_devices()[0], "compute_capability", "0.0")
    return tuple(int(part) for part in found.split(".")) if found[:1].isdigit() else (0, 0)


def _cudnn_attention(q, k, v, bias, mask, *, causal, scale):
    """cuDNN's flash attention. It wants masks and biases whole, and then lengths that are even: what is
    missing is filled up with keys that are hidden and queries that are cut off again."""
    time, source = q.shape[1], k.shape[1]
    more_q, more_k = time % 2, source % 2
    if mask is not None:
        heads = mask.shape[-3] if mask.ndim > 2 else 1
        mask = jnp.broadcast_to(mask, (q.shape[0], heads, time, source))
    elif more_k:
        mask = jnp.ones((q.shape[0], 1, time, source), bool)
    if bias is not None:
        bias = jnp.broadcast_to(bias, (*bias.shape[:2], time, source)).astype(q.dtype)
    if more_q or more_k:
        ends = ((0, 0), (0, 0), (0, more_q), (0, more_k))
        bias, mask = (None if x is None else jnp.pad(x, ends) for x in (bias, mask))
        q, k, v = (
            jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0)))
            for x, more in ((q, more_q), (k, more_k), (v, more_k))
        )
    out = jax.nn.dot_product_attention(
        q, k, v, bias, mask, is_causal=causal, scale=scale, implementation="cudnn"
    )
    return out[:, :time]


BLOCK = 512  # queries or keys that the TPU's kernel takes at a time


def _splash_takes(q, k, where: Target) -> bool:
    """Whether the TPU's kernel for long texts can do this, and spares scores worth sparing."""
    time, heads, kv_heads = q.shape[1], q.shape[2], k.shape[2]
    if where.mesh is not None:
        rows, cut = pieces(where.mesh), pieces(where.mesh, _lie(q, k, None)[1])
        if q.shape[0] % rows or heads % cut or kv_heads % cut:
            return False
    return time == k.shape[1] and time >= BLOCK and time % BLOCK == 0


def _splash_attention(q, k, v, *, causal, scale):
    """Pallas's splash attention (a flash attention that skips hidden blocks), on each device for its own rows
    and heads; the scores ``[time, time]`` never reach memory."""
    from jax.experimental.pallas.ops.tpu.splash_attention import (
        splash_attention_kernel as kernels,
    )
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    time, dim = q.shape[1], q.shape[3]
    scale = 1.0 / math.sqrt(dim) if scale is None else scale
    lanes = -dim % 128  # the kernel's heads are multiples of 128 wide; zeros change nothing

    def local(q, k, v):
        heads = q.shape[2]
        seen = (masks.CausalMask if causal else masks.FullMask)((time, time))
        names = ("q", "kv", "kv_compute", "q_dkv", "kv_dkv", "kv_dkv_compute", "q_dq", "kv_dq")
        sizes: Any = {f"block_{name}": BLOCK for name in names}
        kernel = kernels.make_splash_mha(
            masks.MultiHeadMask([seen] * heads),
            block_sizes=kernels.BlockSizes(**sizes),
            head_shards=1,
            q_seq_shards=1,
        )
        ends = ((0, 0), (0, 0), (0, 0), (0, lanes))
        q, k, v = (jnp.pad(x, ends).swapaxes(1, 2) for x in (q * scale, k, v))
        return jax.vmap(kernel)(q, k, v).swapaxes(1, 2)[..., :dim].astype(v.dtype)

    mesh = target().mesh
    if mesh is None:
        return local(q, k, v)
    spec = P(ROWS, None, _lie(q, k, None)[1])
    return jax.shard_map(local, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(
        q, k, v
    )


def columns_attention(q, k, v, *, bias=None, mask=None, causal=False, scale=None):
    """:func:`attention` with the scores transposed, ``[batch, kv_heads, source, heads' queries]``.

    XLA for CPU reduces over columns four times faster than over rows, and multiplies batches of
    matrices fastest when neither needs transposing, which this order spares all but the small ones.
    """
    batch, time, heads, dim = q.shape
    source, groups = k.shape[1], k.shape[2]
    scale = 1.0 / math.sqrt(dim) if scale is None else scale
    q = q.reshape(batch, time, groups, heads // groups, dim).transpose(0, 2, 4, 3, 1)
    q = q.reshape(batch, groups, dim, -1)
    k = k.transpose(0, 2, 1, 3)
    v = v.transpose(0, 2, 3, 1)
    scores = jnp.matmul(k, q, preferred_element_type=jnp.float32) * scale
    scores = scores.reshape(batch, groups, source, heads // groups, time)
    if bias is not None:
        scores = scores + _columns(bias, groups)
    if mask is not None:
        scores = jnp.where(_columns(mask, groups), scores, HIDDEN)
    if causal:
        seen = jnp.arange(source)[:, None] <= jnp.arange(time)
        scores = jnp.where(seen[:, None], scores, HIDDEN)
    scores = scores.reshape(batch, groups, source, -1)
    weights = jax.nn.softmax(scores, axis=2).astype(v.dtype)
    out = jnp.matmul(v, weights).reshape(batch, groups, dim, -1, time)
    return out.transpose(0, 4, 1, 3, 2).reshape(batch, time, heads, dim)


def _columns(x, groups):
    """``[batch, heads, time, source]``, or 1 for any, as ``[batch, groups, source, heads', time]``."""
    x = x.reshape((1,) * (4 - x.ndim) + x.shape)
    split = (1, 1) if x.shape[1] == 1 else (groups, x.shape[1] // groups)
    x = x.reshape(x.shape[0], *split, *x.shape[2:])
    return x.transpose(0, 1, 4, 2, 3)


def attention_weights(q, k, *, mask=None, causal: bool = False):
    """The softmax itself, ``[batch, heads, time, source]``: to look at, not to compute with."""
    k = jnp.repeat(k, q.shape[2] // k.shape[2], axis=2)
    scores = jnp.einsum("bthd,bshd->bhts", q, k).astype(jnp.float32) / math.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, HIDDEN)
    if causal:
        scores = jnp.where(jnp.tri(q.shape[1], k.shape[1], dtype=bool), scores, HIDDEN)
    return jax.nn.softmax(scores, axis=-1)


class Rope(NamedTuple):
    """Rotary positions stretched for texts longer than the first training's (Dubey et al. 2024, Llama 3).

    Waves longer than ``length / low`` turn ``factor`` times slower, those shorter than ``length / high``
    as ever, those between in between. With ``low == high == 0`` all turn slower alike (Chen et al. 2023,
    "Extending context window by positional interpolation").

    Attributes:
      base: as published, 10,000; length: places of the first training.
    """

    base: float
    factor: float = 1.0
    low: float = 0.0
    high: float = 0.0
    length: int = 8192

    def rates(self, half: int) -> jax.Array:
        """Radians a place turns each of ``half`` pairs of features."""
        rate = self.base ** (-jnp.arange(half, dtype=jnp.float32) / half)
        if self.low == self.high:
            return rate / self.factor
        turns = self.length * rate / (2 * math.pi)  # of each wave in the first training's texts
        kept = jnp.clip((turns - self.low) / (self.high - self.low), 0.0, 1.0)
        return rate * (kept + (1.0 - kept) / self.factor)


def rotate(x, positions, base: float | Rope):
    """Rotary position embedding of ``x [batch, time, heads, dim]`` at ``positions [time]`` (Su et al.
    2021, RoFormer): feature i pairs with ``i + dim / 2``, as in GPT-NeoX and LLaMA."""
    rope = base if isinstance(base, Rope) else Rope(base)
    rate = rope.rates(x.shape[-1] // 2)
    angle = positions.astype(jnp.float32)[:, None] * rate
    cos, sin = jnp.cos(angle)[:, None], jnp.sin(angle)[:, None]
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


class Cache(NamedTuple):
    """Keys and values of the tokens so far, in every layer.

    Attributes:
      key, value: ``[layers, batch, length, kv_heads, dim]``.
      used: int32 scalar, tokens so far.
      memory: keys and values of what a decoder attends to, and its mask ``[1, batch, source]``; None
        until the first call.
    """

    key: jax.Array
    value: jax.Array
    used: jax.Array
    memory: tuple[jax.Array, jax.Array, jax.Array] | None = None

    @classmethod
    def empty(cls, layers: int, batch: int, length: int, heads: int, dim: int) -> "Cache":
        """Room for ``length`` tokens."""
        shape = (layers, batch, length, heads, dim)
        return cls(jnp.zeros(shape), jnp.zeros(shape), jnp.zeros((), jnp.int32))

    def after(self, stored: tuple, tokens: int, memory: tuple | None = None) -> "Cache":
        """The cache once every layer has ``stored`` its keys and values of so many more tokens."""
        return Cache(stored[0], stored[1], self.used + tokens, memory)


class _Projection(nn.Module):
    """A linear map as :class:`dl.models.layers.Dense`, parameters included, part of whose bias is idle.

    Attributes:
      idle: first and last (exclusive) feature whose bias changes nothing that is made of them, so that
        its gradient is 0. As computed it would be rounding alone, of which Adam makes whole steps.
    """

    features: int
    use_bias: bool
    kernel_init: Callable
    idle: tuple[int, int]

    @nn.compact
    def __call__(self, inputs):
        rows = flat(inputs)
        kernel = self.param("kernel", self.kernel_init, (rows.shape[-1], self.features))
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (self.features,))
            place = np.arange(self.features)
            idle = (self.idle[0] <= place) & (place < self.idle[1])
            if idle.any():
                bias = jnp.where(idle, jax.lax.stop_gradient(bias), bias)
        rows, kernel, bias = promote_dtype(rows, kernel, bias)
        rows = held(rows @ kernel)
        rows = rows if bias is None else rows + bias
        return rows.reshape(*inputs.shape[:-1], self.features)


class Attention(nn.Module):
    """Multi-head attention with its projections: of the input to itself, or to a memory.

    Attributes:
      heads, kv_heads: of queries and of keys and values (None: as many).
      rope: base of the rotary positions or a :class:`Rope`, or None for none.
      bias: of the projections; ``'qkv'`` of all but the output's.
      out_init: initialiser of the output projection.
      head_dim: features of a head (None: those of the input, shared out evenly).
      head_norm: of every query's and key's head, before positions turn them (Henry et al. 2020).
    """

    heads: int
    kv_heads: int | None = None
    rope: float | Rope | None = None
    bias: bool | str = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    out_init: Callable = nn.initializers.lecun_normal()
    head_dim: int | None = None
    head_norm: Callable[..., nn.Module] | None = None

    @nn.compact
    def __call__(self, x, memory=None, *, mask=None, causal=False, cache=None, layer=0, known=None):
        """``[batch, time, width]`` to the same, the cache's new keys and values, and the memory's.

        Args:
          memory: ``[batch, source, width]`` to attend to instead of x.
          known: the memory's ``(keys, values)`` where an earlier call has computed them.
          cache: ``(key, value, used)`` as in :class:`Cache`; ``layer`` is this layer's place there.
        """
        batch, time, width = x.shape
        bounded("heads", self.heads, at_least=1, whole=True)
        bounded("kv_heads", self.kv_heads, at_least=1, whole=True)
        kv_heads = self.heads if self.kv_heads is None else self.kv_heads
        bounded("head_dim", self.head_dim, at_least=1, whole=True)
        dim = self.head_dim or width // self.heads
        if (not self.head_dim and width % self.heads) or (self.rope and dim % 2):
            raise UserError(
                "heads-uneven", f"width {width} cannot be cut into {self.heads} heads of even size"
            )

        def project(name, inputs, heads, keys):
            """``keys``: the first head of keys. Their bias adds the same number to all the logits of a
            query, which the softmax takes out again, unless they are turned by their positions."""
            idle = (0, 0) if self.rope else (keys * dim, (keys + kv_heads) * dim)
            dense = _Projection(heads * dim, bool(self.bias), self.kernel_init, idle, name=name)
            return dense(inputs).reshape(batch, -1, heads, dim)

        if memory is None and known is None:
            joint = project("qkv", x, self.heads + 2 * kv_heads, self.heads)
            q, k, v = jnp.split(joint, [self.heads, self.heads + kv_heads], axis=2)
        else:
            q = project("query", x, self.heads, self.heads)
            if known is None:
                known = tuple(jnp.split(project("key_value", memory, 2 * kv_heads, 0), 2, axis=2))
            k, v = known
        if self.head_norm is not None:
            q, k = self.head_norm(name="query_norm")(q), self.head_norm(name="key_norm")(k)
        if self.rope:
            positions = jnp.arange(time) + (0 if cache is None else cache[2])
            q, k = rotate(q, positions, self.rope), rotate(k, positions, self.rope)
        if cache is not None:
            keys, values, used = cache
            place = (layer, 0, used, 0, 0)
            keys = jax.lax.dynamic_update_slice(keys, k[None].astype(keys.dtype), place)
            values = jax.lax.dynamic_update_slice(values, v[None].astype(values.dtype), place)
            cache = keys, values, used
            k, v = keys[layer].astype(q.dtype), values[layer].astype(q.dtype)
            seen = jnp.arange(k.shape[1]) <= used + jnp.arange(time)[:, None]
            mask, causal = (seen if mask is None else mask & seen), False
        if mask is not None:
            mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention_weights(q, k, mask=mask, causal=causal))
        lies = (ROWS, *_lie(q, k, mask), None)
        q, k, v = (hold(x, *lies) for x in (q, k, v))
        out = hold(attention(q, k, v, mask=mask, causal=causal), *lies)
        out = out.reshape(batch, time, self.heads * dim)
        out = Dense(width, self.bias is True, kernel_init=self.out_init, name="out")(out)
        return out, cache, known
