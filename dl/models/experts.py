"""Mixture of experts: a feed-forward layer of many networks, of which each token takes a few."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dl.core.errors import bounded
from dl.core.target import EXPERT, ROWS, hold, pieces, target
from dl.models.layers import Activation


class Experts(nn.Module):
    """A feed-forward whose ``top`` likeliest networks of ``experts`` see each token (Shazeer et al. 2017; Lepikhin
    et al. 2021, GShard): ``[batch, time, width] -> [batch, time, width]``.

    A linear router gives each token chances of the experts. In training, an expert has room for ``capacity`` times
    its even share of each group of ``group`` tokens, and gives it to the earliest, so that no token looks ahead;
    a token that finds no room gets 0 there. Outside training every token finds room.

    Experts are kept evenly busy without a loss of their own (Wang et al. 2024, "Auxiliary-loss-free load
    balancing"): the collection ``'balance'`` holds a bias of each, added to the chances where experts are chosen
    but not where their outputs are weighed. In training it falls where an expert got more than its share.

    Attributes:
      experts: networks; ``top``: of them, how many a token takes.
      hidden: width inside each; ``gated`` and ``activation`` as in :class:`dl.models.transformer.Transformer`.
      speed: by how much a bias changes a step.
      out_scale: variance of what each network puts out at the start, over that of its inputs.

    On a mesh with ``expert=n`` each device holds an n-th of the experts, and tokens travel to them and back
    (two all-to-alls a layer forward, two backward).
    """

    experts: int
    hidden: int
    activation: Activation = nn.gelu
    gated: bool = False
    top: int = 2
    capacity: float = 1.25
    group: int = 1024
    speed: float = 1e-3
    out_scale: float = 1.0

    @nn.compact
    def __call__(self, x, *, train: bool = False):
        bounded("experts", self.experts, at_least=1, whole=True)
        bounded("top, the experts that a token takes,", self.top, at_least=1, whole=True)
        bounded("top, the experts that a token takes,", self.top, at_most=self.experts)
        width = x.shape[-1]
        router = self.param("router", nn.initializers.lecun_normal(), (width, self.experts))
        shape = (self.experts, width, self.hidden * (1 + self.gated))
        into = self.param("in", _start(1.0), shape).astype(x.dtype)
        shape = (self.experts, self.hidden, width)
        out = self.param("out", _start(self.out_scale), shape).astype(x.dtype)
        bias = self.variable("balance", "bias", jnp.zeros, (self.experts,), jnp.float32)

        chances = jax.nn.softmax(x.astype(jnp.float32) @ router.astype(jnp.float32))
        picks, weights = choose(chances, bias.value, self.top)
        if train and not self.is_initializing():
            load = picks.sum(-2).mean((0, 1))
            bias.value += self.speed * jnp.sign(load.mean() - load)

        def network(tokens, into, out):
            """Of tokens ``[..., n, width]`` by experts ``[..., width, hidden]``."""
            y = tokens @ into
            if self.gated:
                gate, y = jnp.split(y, 2, axis=-1)
                return (self.activation(gate) * y) @ out
            return self.activation(y) @ out

        if train:
            return self._sent(x, picks, weights, lambda tokens: network(tokens, into, out))
        shares = jnp.einsum("btke,btk->ebt", picks, weights).astype(x.dtype)
        mesh = target().mesh
        if mesh is not None and pieces(mesh, EXPERT) > 1:
            everything = network(x[None], into[:, None], out[:, None])
            return jnp.einsum("ebtd,ebt->btd", everything, shares)

        def add(total, one):
            into, out, share = one
            return total + network(x, into, out) * share[..., None], None

        return jax.lax.scan(add, jnp.zeros_like(x), (into, out, shares))[0]

    def _sent(self, x, picks, weights, networks):
        """What the experts make of the tokens that they have room for, put together again."""
        batch, time, width = x.shape
        group = self.group if time % self.group == 0 else time
        x, picks, weights = (
            a.reshape(batch * time // group, group, *a.shape[2:]) for a in (x, picks, weights)
        )
        room = math.ceil(self.capacity * self.top * group / self.experts)
        slots = seats(picks, min(room, group)).astype(x.dtype)
        there = jnp.einsum("gtke,gtkc->gtec", picks.astype(x.dtype), slots)
        back = jnp.einsum(
            "gtke,gtkc,gtk->gtec", picks.astype(x.dtype), slots, weights.astype(x.dtype)
        )
        # Groups lie with their rows; on the way, with the experts that see them.
        home, away = (None, ROWS), (EXPERT, tuple(axis for axis in ROWS if axis != EXPERT))
        tokens = hold(hold(jnp.einsum("gtec,gtd->egcd", there, x), *home), *away)
        experts, groups, room, _ = tokens.shape
        made = networks(tokens.reshape(experts, groups * room, width))
        made = hold(hold(made.reshape(experts, groups, room, width), *away), *home)
        y = jnp.einsum("gtec,egcd->gtd", back, made)
        return hold(y, ROWS).reshape(batch, time, width)


def _start(scale: float):
    """Kernels ``[experts, in, out]``, each drawn for its own inputs."""
    return nn.initializers.variance_scaling(scale, "fan_in", "normal", batch_axis=(0,))


def choose(chances, bias, top: int):
    """``(picks [..., top, experts] of 0 and 1, weights [..., top])`` of chances ``[..., experts]``: the experts of
    the highest chance plus bias, in order, and their chances, which sum to 1 where there are several."""
    scores, picks = jax.lax.stop_gradient(chances + bias), []
    for _ in range(top):
        best = jnp.argmax(scores, -1)[..., None] == jnp.arange(scores.shape[-1])
        scores = jnp.where(best, -jnp.inf, scores)
        picks.append(best)
    chosen = jnp.stack(picks, -2).astype(jnp.float32)
    weights = (chances[..., None, :] * chosen).sum(-1)
    return chosen, weights / weights.sum(-1, keepdims=True) if top > 1 else weights


def seats(picks, room: int):
    """The seat of each token with each expert it picks, one-hot ``[groups, time, top, room]``, by order of
    arrival; zeros where all are taken. Of picks ``[groups, time, top, experts]``."""
    groups, time, top, experts = picks.shape
    arriving = picks.astype(jnp.int32).reshape(groups, time * top, experts)
    before = (jnp.cumsum(arriving, 1) - arriving).reshape(picks.shape)
    seat = (before * picks.astype(jnp.int32)).sum(-1)
    return seat[..., None] == jnp.arange(room)
