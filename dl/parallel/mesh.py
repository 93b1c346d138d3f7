"""A mesh of devices with the axes ('data', 'fsdp', 'expert', 'sequence', 'tensor'), from one line of text.

A mesh is all that differs between one CPU, eight GPUs and a pod. Batches are cut over ``data`` and
``fsdp``; parameters and optimiser state over ``fsdp`` (Rajbhandari et al. 2020, ZeRO stage 3); batches and the
experts of a mixture over ``expert`` (Lepikhin et al. 2021, GShard); each text along
time over ``sequence`` (Liu et al. 2023, ring attention); the matrices of a Transformer over ``tensor``
(Shoeybi et al. 2019, Megatron-LM).
"""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from dl.core.errors import UserError, unknown
from dl.core.target import ROWS, SEQUENCE

AXES = (*ROWS, SEQUENCE, "tensor")


def parse_mesh(text: str, devices: int) -> dict[str, int]:
    """The size of every axis: ``'data=2,fsdp=4'`` gives ``{'data': 2, 'fsdp': 4, 'expert': 1, ...}``.

    ``-1`` stands for as many as there are devices left.

    Raises:
      UserError: no such axis, an axis twice, or no such size.
    """
    sizes = dict.fromkeys(AXES, 1)
    named: set[str] = set()
    for part in filter(None, text.replace(" ", "").split(",")):
        name, _, number = part.partition("=")
        if name not in AXES:
            raise unknown("mesh axis", name, AXES)
        if name in named:
            raise UserError("mesh-malformed", f"mesh {text!r}: {name} stands there twice")
        named.add(name)
        try:
            sizes[name] = int(number)
        except ValueError:
            raise UserError(
                "mesh-malformed", f"mesh {text!r}: write an axis as {name}=4, not {part!r}"
            ) from None
    open_ = [name for name, size in sizes.items() if size == -1]
    if len(open_) > 1 or any(size < 1 for name, size in sizes.items() if name not in open_):
        raise UserError(
            "mesh-malformed",
            f"mesh {text!r}: sizes are 1 or more, and one of them may be -1, 'the rest'",
        )
    for name in open_:
        others = -math.prod(sizes.values())
        sizes[name] = max(1, devices // others)
        if others < devices and devices % others:
            raise UserError(
                "mesh-malformed",
                f"mesh {text!r}: {devices} devices cannot be shared out evenly, for they are no multiple of "
                f"{others}: write a number in place of -1, and the rest stay idle",
            )
    return sizes


def make_mesh(text: str, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that ``text`` asks for (see :func:`parse_mesh`), over the first of ``devices``, by default of all
    that are here.

    Devices of one process stay together, so the rightmost axes, which talk most, lie inside a machine.

    Raises:
      UserError: too few devices, or a mesh that leaves out devices of other processes.
    """
    here = devices is None
    devices = sorted(
        jax.devices() if devices is None else devices, key=lambda d: (d.process_index, d.id)
    )
    sizes = parse_mesh(text, len(devices))
    wanted = math.prod(sizes.values())
    if wanted > len(devices):
        raise UserError(
            "mesh-too-large",
            f"mesh {text!r} needs {wanted} devices and there are {len(devices)}: lower an axis"
            + (
                f" (or, to try it on a CPU, set XLA_FLAGS=--xla_force_host_platform_device_count={wanted})"
                if here
                else ""
            ),
        )
    if here and wanted < len(devices) and jax.process_count() > 1:
        raise UserError(
            "mesh-too-small",
            f"mesh {text!r} holds {wanted} of the {len(devices)} devices: a run of several processes uses "
            "them all; write -1 for an axis to fill it up",
        )
    shape = [sizes[name] for name in AXES]
    if devices[0].platform == "tpu" and wanted == len(devices):
        # Neighbours along the torus, whose axes are cut where the mesh asks for it.
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        grid = np.array(devices[:wanted]).reshape(shape)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_name(mesh: Mesh) -> str:
    """The text that gives ``mesh``, axes of size 1 left out."""
    named = [f"{name}={size}" for name, size in mesh.shape.items() if size > 1]
    return ",".join(named) or "data=1"
