"""Pictures of codes and strips."""

import numpy as np

from dl.figures.codes import code_map, principal_axes, strips


def test_strips_stand_in_rows():
    dark, bright = np.zeros((3, 4, 5, 1)), np.ones((3, 4, 5, 1))
    sheet = strips(dark, bright)
    assert sheet.shape == (1, 2 * 4 + 1, 3 * 5 + 2, 3)
    assert (sheet[0, :4, :5] == 0).all()
    assert (sheet[0, 5:, :5] == 1).all()


def test_a_map_draws_each_class_along_the_widest_axes():
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(50, 4)) * [0.1, 5.0, 0.1, 2.0]
    figure = code_map(codes, np.arange(50) % 3)
    (axes,) = figure.axes
    drawn = np.concatenate([part.get_offsets() for part in axes.collections])
    assert len(axes.collections) == 3
    np.testing.assert_allclose(np.sort(drawn.std(0))[::-1], codes.std(0)[[1, 3]], rtol=0.1)
    plain = code_map(codes[:, :2], np.zeros(50, int))
    np.testing.assert_allclose(plain.axes[0].collections[0].get_offsets(), codes[:, :2])
    from sklearn.decomposition import PCA

    places, shares = principal_axes(codes)
    wanted = PCA(2).fit(codes)
    np.testing.assert_allclose(np.abs(places), np.abs(wanted.transform(codes)))
    np.testing.assert_allclose(shares, wanted.explained_variance_ratio_)
    for few in (codes[:, :1], codes[:1], np.ones((5, 4))):  # one number, one row, all alike
        assert code_map(few, np.zeros(len(few), int))._repr_png_()
