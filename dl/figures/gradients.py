"""How large gradients are, layer by layer and step by step."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from dl.core.optim import decay_matrices
from dl.core.state import path_name
from dl.core.task import Batch, Task, Variables
from dl.figures.canvas import new_figure


@functools.partial(jax.jit, static_argnums=0)
def gradients(task: Task, variables: Variables, batch: Batch) -> tuple[Any, Batch]:
    """Those of the task's loss by its parameters, and by each column of ``batch``; no network drops out
    differently from one call to the next."""

    def loss(params, batch):
        return task.loss({**variables, "params": params}, batch, jax.random.key(0))[0]

    return jax.grad(loss, (0, 1), allow_int=True)(variables["params"], batch)


def kernel_norms(gradients: Any) -> dict[str, float]:
    """Root mean square of the gradient by each kernel of a parameter tree, by path."""
    leaves = jax.tree_util.tree_leaves_with_path(gradients)
    matrices = jax.tree.leaves(decay_matrices(gradients))
    return {
        path_name(path): float(np.sqrt(np.mean(np.square(np.asarray(leaf, np.float64)))))
        for (path, leaf), matrix in zip(leaves, matrices, strict=True)
        if matrix
    }


def gradient_figure(
    layers: Mapping[str, float], times: Sequence[float] | np.ndarray | None = None
) -> Any:
    """Gradient sizes on a logarithmic scale, by layer and, where given, by time step: a matplotlib
    figure. What vanishes beyond float32 stands at the bottom."""
    panels = 1 if times is None else 2
    figure = new_figure(5.6 * panels, 0.24 * len(layers) + 2.4)
    axes = figure.add_subplot(1, panels, 1)
    names = list(layers)
    axes.barh(names, [max(layers[name], 1e-30) for name in names])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("gradient by kernel, root mean square")
    if times is not None:
        axes = figure.add_subplot(1, panels, 2)
        axes.semilogy(np.maximum(np.asarray(times), 1e-30))
        axes.set_xlabel("time step")
        axes.set_ylabel("gradient by the input, norm")
        axes.grid(alpha=0.3)
    return figure
