"""Checkpoints: written by Orbax in the background, checked by digest before they are believed."""

import hashlib
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dl.core.errors import UserError
from dl.core.state import combine, path_name, plain
from dl.training import faults


def flatten(tree) -> dict[str, Any]:
    """Leaves of ``tree`` by path, PRNG keys as their words."""
    leaves = jax.tree_util.tree_leaves_with_path(plain(tree))
    return {path_name(path): leaf for path, leaf in leaves}


def digests(flat: dict[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 (hex) of each array, as `dl.core.state.leaf_digests` gives them, on several threads."""

    def one(array):
        array = np.ascontiguousarray(array)
        hasher = hashlib.sha256(f"{array.dtype}{array.shape}".encode())
        hasher.update(array.reshape(-1).view(np.uint8).data)
        return hasher.hexdigest()

    with ThreadPoolExecutor(8) as pool:
        return dict(zip(flat, pool.map(one, flat.values()), strict=True))


def _quiet() -> None:
    """Keep Orbax's own log and left-over callbacks off the screen: what matters is raised, once.

    When one file of a checkpoint cannot be written, Orbax closes its event loop while others are still
    under way, and each of them then reports that the loop is closed.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    shown = sys.unraisablehook
    if getattr(shown, "filters_closed_loops", False):
        return

    def show(unraisable):
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    show.filters_closed_loops = True  # type: ignore[attr-defined]
    sys.unraisablehook = show


class Checkpoints:
    """The checkpoints of one run: the best, and the last two (the older in case of damage)."""

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp

        _quiet()
        self._ocp = ocp
        self.folder = folder.absolute()
        self._options = ocp.CheckpointManagerOptions(
            enable_async_checkpointing=True, cleanup_tmp_directories=True, create=True
        )
        self._manager = ocp.CheckpointManager(
            self.folder, item_names=("state", "meta"), options=self._options
        )
        self._saving: int | None = None

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any, meta: dict, keep: set[int]) -> dict[str, str]:
        """Begin to write ``tree``; returns its leaf digests. ``keep`` are older steps not to delete,
        besides the newest.

        The arrays are copied to the host first, so the caller may donate them at once.
        """
        self.wait()
        for old in self.steps()[:-1]:  # the newest stays, in case the one to come is damaged
            if old not in keep:
                self._manager.delete(old)
        flat = {name: np.array(leaf) for name, leaf in jax.device_get(flatten(tree)).items()}
        bad = [n for n, x in flat.items() if n.startswith("state/variables") and not _finite(x)]
        if bad:
            raise UserError(
                f"the state at step {step} is not finite (first leaf: {bad[0]}); it was not saved. "
                "Lower the learning rate or clip gradients"
            )
        leaves = digests(flat)
        meta = {**meta, "step": step, "digests": leaves}
        meta["shapes"] = {name: list(x.shape) for name, x in flat.items()}
        faults.during_write(self.folder, step)
        args = self._ocp.args
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(flat), meta=args.JsonSave(meta)),
            )
        except OSError as error:
            raise _disk(step, error, self.steps()) from error
        self._saving = step
        return leaves

    def wait(self) -> None:
        """Until the save in progress is whole on disk."""
        if self._saving is None:
            return
        step, self._saving = self._saving, None
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except Exception as error:
            raise _disk(step, error, [s for s in self.steps() if s != step]) from error

    def restore(self, template: Any, step: int | None = None, say=print) -> tuple[Any, dict] | None:
        """The newest whole checkpoint (or that of ``step``) as ``(tree, meta)``; None if there is none.

        A damaged one is named in one line and the next older one taken.
        """
        wanted = [step] if step is not None else sorted(self._manager.all_steps(), reverse=True)
        problems = []
        for candidate in wanted:
            try:
                return self._restore(candidate, template)
            except UserError:
                raise
            except Exception as error:
                text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
                problems.append(f"checkpoint {candidate} is damaged ({text})")
                say(f"{problems[-1]}; trying the one before it")
        if problems:
            raise UserError(
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems)}. "
                "Restore the folder from a copy, or start a new run"
            )
        return None

    def _restore(self, step: int, template: Any) -> tuple[Any, dict]:
        args = self._ocp.args
        meta = self._manager.restore(step, args=args.Composite(meta=args.JsonRestore())).meta
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flatten(template).items()
        }
        stored = meta["digests"]
        if shapes.keys() != stored.keys():
            odd = sorted(shapes.keys() ^ stored.keys())
            raise UserError(
                f"checkpoint {step} in {self.folder} is of another model or optimiser: "
                f"only one of them has {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}"
            )
        for name, shape in meta["shapes"].items():
            if tuple(shape) != shapes[name].shape:
                raise UserError(
                    f"checkpoint {step} in {self.folder} is of another model: {name} has shape "
                    f"{tuple(shape)} there and {shapes[name].shape} here"
                )
        restore = args.StandardRestore({n: np.zeros(s.shape, s.dtype) for n, s in shapes.items()})
        flat = self._manager.restore(step, args=args.Composite(state=restore)).state
        flat = {name: np.asarray(flat[name]) for name in shapes}
        for name, value in digests(flat).items():
            if value != stored[name]:
                raise ValueError(f"{name} does not match its digest")
        return unflatten(flat, template), meta

    def close(self) -> None:
        self.wait()
        self._manager.close()


def unflatten(flat: dict[str, np.ndarray], template: Any) -> Any:
    """``flat`` in the shape of ``template``, on the device."""
    from dl.core.state import like

    def take(path, _):
        return jax.numpy.array(flat[path_name(path)])  # a copy: restored arrays get donated

    return like(jax.tree_util.tree_map_with_path(take, plain(template)), template)


def state_digest(leaves: dict[str, str]) -> str:
    """One digest for a checkpoint's state, from its leaves' (running metrics are left out)."""
    return combine({n: v for n, v in leaves.items() if n.startswith("state/")})


def _finite(array: np.ndarray) -> bool:
    if array.dtype.kind not in "fV":
        return True
    if array.dtype.kind == "V":  # bfloat16 and its kin
        array = array.astype(np.float32)
    return bool(np.isfinite(array).all())


def _disk(step: int, error: Exception, whole: list[int]) -> UserError:
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    last = f"the last good checkpoint is step {max(whole)}" if whole else "none was saved before"
    return UserError(
        f"could not save the checkpoint of step {step}: {text}; {last}. Free some space or mend the "
        "folder, then go on with --resume"
    )
