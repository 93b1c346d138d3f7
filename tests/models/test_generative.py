"""Autoencoders, VAE, GAN and style networks: shapes, parity of their parts, mistakes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.models.autoencoder import Autoencoder, ConvDecoder, ConvEncoder
from dl.models.gan import GAN, Discriminator, Generator
from dl.models.mlp import MLP
from dl.models.style import InstanceNorm, StyleNetwork
from dl.models.unet import depth_to_space
from dl.models.vae import VAE, interpolate

X = jax.random.uniform(jax.random.key(0), (3, 8, 8, 1))


def test_dense_and_convolutional_autoencoders_give_the_input_s_shape():
    dense = Autoencoder(MLP((16, 2)), MLP((16, 64)), (8, 8, 1))
    conv = Autoencoder(ConvEncoder(2, (4, 8)), ConvDecoder((8, 8, 1), (8, 4)), (8, 8, 1))
    for model in (dense, conv):
        variables = jax.eval_shape(model.init, jax.random.key(1), X)
        encode = functools.partial(model.apply, method="encode")
        assert jax.eval_shape(model.apply, variables, X).shape == X.shape
        assert jax.eval_shape(encode, variables, X).shape == (3, 2)


def test_a_decoder_stage_is_a_transposed_convolution():
    """depth_to_space of a 3x3 convolution computes torch's ConvTranspose2d(4, stride 2, padding 1)."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)
    kernel = rng.normal(size=(3, 2, 4, 4)).astype(np.float32)  # torch: in, out, height, width
    # Output pixel (2i + a, 2j + b) sees inputs i - 1 + p through the transposed kernel's row a + 3 - 2p.
    ours = np.zeros((3, 3, 3, 2, 2, 2), np.float32)  # window, in, sub-pixel, out
    for a in range(2):
        for b in range(2):
            for p in range(3):
                for q in range(3):
                    row, column = a + 3 - 2 * p, b + 3 - 2 * q
                    if 0 <= row < 4 and 0 <= column < 4:
                        ours[p, q, :, a, b] = kernel[:, :, row, column]
    small = jax.lax.conv_general_dilated(
        x, ours.reshape(3, 3, 3, 8), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    expected = torch.nn.functional.conv_transpose2d(
        torch.tensor(x).permute(0, 3, 1, 2), torch.tensor(kernel), stride=2, padding=1
    )
    np.testing.assert_allclose(depth_to_space(small), expected.permute(0, 2, 3, 1), atol=1e-4)


def test_vae_encodes_means_and_deviations():
    model = VAE(MLP((16, 4)), MLP((16, 64)), (8, 8, 1))
    variables = jax.jit(model.init)(jax.random.key(1), X)
    mean, log_sd = model.apply(variables, X, method="encode")
    assert mean.shape == log_sd.shape == (3, 2)
    assert model.apply(variables, mean, method="decode").shape == X.shape


def test_interpolation_keeps_the_norm_and_its_ends():
    a, b = jnp.array([3.0, 0.0]), jnp.array([0.0, 3.0])
    path = interpolate(a, b, 5)
    np.testing.assert_allclose(path[0], a, atol=1e-6)
    np.testing.assert_allclose(path[-1], b, atol=1e-6)
    np.testing.assert_allclose(jnp.linalg.norm(path, axis=1), 3.0, rtol=1e-5)
    np.testing.assert_allclose(interpolate(a, 2 * a, 3)[1], 1.5 * a, rtol=1e-5)


@pytest.mark.parametrize("classes", [0, 3])
def test_generator_and_discriminator_fit_together(classes):
    model = GAN(
        Generator((8, 8, 1), (8, 4), classes), Discriminator((4, 8), True, classes), latent=5
    )
    label = jnp.arange(3) if classes else None
    variables = jax.jit(model.init)(jax.random.key(1), X, label)
    noise = model.noise(jax.random.key(2), 3)
    generate, discriminate = (
        jax.jit(functools.partial(model.apply, method=name))
        for name in ("generate", "discriminate")
    )
    fake = generate(variables, noise, label)
    assert fake.shape == X.shape
    assert jnp.abs(fake).max() <= 1
    score = discriminate(variables, fake, label)
    assert score.shape == (3,)
    if classes:
        other = discriminate(variables, fake, (label + 1) % 3)
        assert (score != other).all()
        assert (fake != generate(variables, noise, (label + 1) % 3)).any()


def test_spectral_norm_divides_by_the_largest_singular_value():
    model = Discriminator((4,), spectral=True)
    variables = jax.jit(model.init)(jax.random.key(1), X)
    kernel = variables["params"]["Dense_0"]["kernel"]
    apply = jax.jit(lambda v: model.apply(v, X, train=True, mutable=["batch_stats"])[1])
    for _ in range(30):
        variables = {**variables, **apply(variables)}
    sigmas = {
        "/".join(str(p.key) for p in path): leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["batch_stats"])
        if "sigma" in str(path)
    }
    conv = variables["params"]["Conv_0"]["kernel"]
    found = sorted(float(sigma) for sigma in sigmas.values())
    exact = [np.linalg.norm(np.asarray(k).reshape(-1, k.shape[-1]), 2) for k in (kernel, conv)]
    np.testing.assert_allclose(found, sorted(exact), rtol=1e-2)


def test_instance_norm_matches_torch():
    torch = pytest.importorskip("torch")
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 3))
    params = {"scale": jnp.array([1.0, 2.0, 0.5]), "bias": jnp.array([0.0, -1.0, 1.0])}
    scale, bias = (torch.tensor(np.array(params[name])) for name in ("scale", "bias"))
    expected = torch.nn.functional.instance_norm(
        torch.tensor(np.array(x)).permute(0, 3, 1, 2), weight=scale, bias=bias
    )
    ours = InstanceNorm().apply({"params": params}, x)
    np.testing.assert_allclose(ours, expected.permute(0, 2, 3, 1), atol=1e-5)


def test_style_network_keeps_the_size():
    model = StyleNetwork((4, 8, 8), blocks=1)
    x = jax.random.uniform(jax.random.key(0), (1, 12, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), x)
    out = jax.jit(model.apply)(variables, x)
    assert out.shape == x.shape
    assert (out > 0).all()
    assert (out < 1).all()


def test_sizes_that_cannot_be_halved_are_named():
    with raises("indivisible", "10 x 8", "2 times"):
        ConvDecoder((10, 8, 1)).init(jax.random.key(0), jnp.zeros((1, 2)))
    with raises("indivisible", "9 x 8"):
        StyleNetwork().init(jax.random.key(0), jnp.zeros((1, 9, 8, 3)))
