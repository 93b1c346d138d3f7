"""Variational autoencoder (Kingma & Welling 2014; Rezende et al. 2014)."""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp


class VAE(nn.Module):
    """A Gaussian code with diagonal covariance, and a decoder from it.

    Attributes:
      encoder: ``[batch, ...] -> [batch, 2 * latent]``: means, then log standard deviations; an MLP or a
        :class:`dl.models.autoencoder.ConvEncoder`.
      decoder: ``[batch, latent] ->`` the likelihood's parameters, as many values as ``shape`` has.
      shape: of one example.
    """

    encoder: nn.Module
    decoder: nn.Module
    shape: Sequence[int]

    def encode(self, x, *, train: bool = False):
        """Mean and log standard deviation of the code, each ``[batch, latent]`` in float32."""
        both = self.encoder(x, train=train).astype(jnp.float32)
        mean, log_sd = jnp.split(both, 2, axis=-1)
        return mean, log_sd

    def decode(self, code, *, train: bool = False):
        """``[batch, latent] -> [batch, *shape]``, the likelihood's parameters."""
        return self.decoder(code, train=train).reshape(code.shape[0], *self.shape)

    def __call__(self, x, *, train: bool = False):
        return self.decode(self.encode(x, train=train)[0].astype(x.dtype), train=train)


def interpolate(a: jax.Array, b: jax.Array, steps: int) -> jax.Array:
    """Codes on the great circle from ``a`` to ``b [latent]``: ``[steps, latent]`` (White 2016, slerp).

    A straight line would lead through the thin middle of a Gaussian.
    """
    share = jnp.linspace(0.0, 1.0, steps)[:, None]
    cosine = jnp.vdot(a, b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-12)
    angle = jnp.arccos(jnp.clip(cosine, -1.0, 1.0))
    straight = angle < 1e-3
    sine = jnp.where(straight, 1.0, jnp.sin(angle))
    round_ = (jnp.sin((1.0 - share) * angle) * a + jnp.sin(share * angle) * b) / sine
    return jnp.where(straight, (1.0 - share) * a + share * b, round_)
