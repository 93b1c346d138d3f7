"""Principal components: what an autoencoder has to be compared with."""

from collections.abc import Callable

import numpy as np


def reconstruction(images: np.ndarray, size: int) -> Callable[[np.ndarray], np.ndarray]:
    """``x [n, ...] in 0..1 -> x`` from its first ``size`` principal components, those of training ``images
    [rows, ...]`` in 0..255."""
    from sklearn.decomposition import PCA

    x = np.asarray(images, np.float32) / 255
    pca = PCA(size, svd_solver="covariance_eigh").fit(x.reshape(len(x), -1))
    return lambda x: pca.inverse_transform(pca.transform(x.reshape(len(x), -1))).reshape(x.shape)
