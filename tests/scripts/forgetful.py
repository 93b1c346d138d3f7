"""The tiny experiment with one part of the state left out of its checkpoints: `dl verify` must fail."""

import os

import jax
from tiny import Config, build

import dl
from dl.core.state import path_name
from dl.training import checkpoints

FORGOTTEN = os.environ["DL_TEST_FORGET"]
honest = checkpoints.unflatten


def forget(flat, template):
    def keep(path, restored, fresh):
        return fresh if FORGOTTEN in path_name(path) else restored

    return jax.tree_util.tree_map_with_path(keep, honest(flat, template), template)


if __name__ == "__main__":
    checkpoints.unflatten = forget
    dl.main(Config, build)
