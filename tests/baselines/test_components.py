"""Pictures from their principal components."""

import numpy as np

from dl.baselines.components import reconstruction


def test_what_lies_in_the_components_comes_back():
    draw = np.random.default_rng(0)
    images = draw.integers(0, 255, (40, 1, 1)) * np.array([[0.0, 0.5, 1.0]])  # one direction alone
    found = reconstruction(images, 1)(images[:5] / 255)
    np.testing.assert_allclose(found, images[:5] / 255, atol=1e-5)
    other = np.array([[[1.0, 0.0, 0.0]]])
    assert np.abs(reconstruction(images, 1)(other) - other).max() > 0.5
