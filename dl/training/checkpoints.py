"""Checkpoints: written by Orbax in the background, checked by digest before they are believed."""

import logging
import os
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

from dl.core.errors import UserError
from dl.core.state import array_digest, combine, path_name, plain
from dl.parallel import processes
from dl.parallel.sharding import on_host

THREADS_PAY = 2**23  # bytes to digest from which starting threads is worth its time
CENTURY = 100 * 365 * 24 * 3600  # seconds


def flatten(tree: Any) -> dict[str, Any]:
    """Leaves of ``tree`` by path, PRNG keys as their words."""
    leaves = jax.tree_util.tree_leaves_with_path(plain(tree))
    return {path_name(path): leaf for path, leaf in leaves}


def digests(flat: dict[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 (hex) of each array, as `dl.core.state.leaf_digests` gives them; large ones on several
    threads."""

    if sum(array.nbytes for array in flat.values()) < THREADS_PAY:
        return {path: array_digest(array) for path, array in flat.items()}
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(flat, pool.map(array_digest, flat.values()), strict=True))


def _quiet() -> None:
    """Keep Orbax's own log and left-over callbacks off the screen: what matters is raised, once.

    When one file of a checkpoint cannot be written, Orbax closes its event loop while others are still
    under way, and each of them then reports that the loop is closed.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    shown = sys.unraisablehook
    if getattr(shown, "filters_closed_loops", False):
        return

    def show(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            shown(unraisable)

    show.filters_closed_loops = True  # type: ignore[attr-defined]
    sys.unraisablehook = show


class Checkpoints:
    """The checkpoints of one run: the best, and the last two (the older in case of damage).

    Several processes write one together, each the parts that it holds, into a folder that all of them
    see; it can be read again by any number of them.
    """

    def __init__(self, folder: Path):
        import orbax.checkpoint as ocp

        _quiet()
        self._ocp = ocp
        self.folder = folder.absolute()
        options: dict[str, Any] = {"create": True}
        # Orbax measures by the wall clock how long a write takes and how long its threads wait for a
        # folder, and gives up after 20 minutes: a clock set forward would do. Alone, there is no other
        # process to wait for in vain; and the folder can be made at once.
        waits: dict[str, Any] = {
            "timeout_secs": CENTURY,
            "create_directories_asynchronously": False,
        }
        if jax.process_count() > 1:
            processes.on_first_process(lambda: self.folder.mkdir(parents=True, exist_ok=True))
            # Named one by one they wait for each other without the devices, which are training.
            everyone = set(range(jax.process_count()))
            together = ocp.options.MultiprocessingOptions(active_processes=everyone)
            options, waits = {"create": False, "multiprocessing_options": together}, {}
        self._options = ocp.CheckpointManagerOptions(
            enable_async_checkpointing=True,
            async_options=ocp.AsyncOptions(**waits),
            cleanup_tmp_directories=True,
            **options,
        )
        self._manager = ocp.CheckpointManager(
            self.folder, item_names=("state", "meta"), options=self._options
        )
        self._saving: int | None = None
        self._keep: set[int] = set()

    def steps(self) -> list[int]:
        return sorted(self._manager.all_steps())

    def save(self, step: int, tree: Any, meta: dict[str, Any], keep: set[int]) -> dict[str, str]:
        """Begin to write ``tree``; returns its leaf digests. ``keep`` are older steps not to delete,
        besides the newest.

        The arrays are copied to the host first, so the caller may donate them at once.
        """
        self.wait()
        flat = flatten(tree)
        if jax.process_count() == 1:
            flat = {name: np.array(leaf) for name, leaf in jax.device_get(flat).items()}
        leaves, bad = examined(flat)
        if bad:
            raise UserError(
                "state-not-finite",
                f"the state at step {step} is not finite (first leaf: {bad[0]}); it was not saved. "
                "Lower the learning rate or clip gradients",
            )
        meta = {**meta, "step": step, "digests": leaves}
        meta["shapes"] = {name: list(x.shape) for name, x in flat.items()}
        args = self._ocp.args
        try:
            self._manager.save(
                step,
                args=args.Composite(state=args.StandardSave(flat), meta=args.JsonSave(meta)),
            )
        except OSError as error:
            raise _disk(step, error, self.steps()) from None
        self._saving, self._keep = step, keep
        if jax.process_count() > 1:
            self.wait()  # parts are written from where they lie, and are about to be donated
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
            raise _disk(step, error, [s for s in self.steps() if s != step]) from None
        # Only now: until the new one is whole, the newest may turn out damaged.
        for old in self.steps()[:-2]:
            if old not in self._keep:
                self._manager.delete(old)

    def restore(
        self, template: Any, step: int | None = None, say: Callable[[str], Any] = print
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole checkpoint (or that of ``step``) as ``(tree, meta)``; None if there is none.

        A damaged one is named in one line and the next older one taken.
        """
        wanted = (
            [step] if step is not None else processes.on_first_process(lambda: self.steps()[::-1])
        )
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
                "checkpoints-damaged",
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems)}. "
                "Restore the folder from a copy, or start a new run",
            )
        return None

    def _restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        args = self._ocp.args
        meta = self._manager.restore(step, args=args.Composite(meta=args.JsonRestore())).meta
        shapes = {
            name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flatten(template).items()
        }
        stored = meta["digests"]
        if shapes.keys() != stored.keys():
            odd = sorted(shapes.keys() ^ stored.keys())
            raise UserError(
                "checkpoint-of-another-model",
                f"checkpoint {step} in {self.folder} is of another model or optimiser: "
                f"only one of them has {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}",
            )
        for name, shape in meta["shapes"].items():
            if tuple(shape) != shapes[name].shape:
                raise UserError(
                    "checkpoint-of-another-model",
                    f"checkpoint {step} in {self.folder} is of another model: {name} has shape "
                    f"{tuple(shape)} there and {shapes[name].shape} here",
                )
        flat = processes.all_or_none(lambda: self._read(step, template))
        for name, value in examined(flat)[0].items():
            if value != stored[name]:
                raise ValueError(f"{name} does not match its digest")
        return unflatten(flat, template), meta

    def _read(self, step: int, template: Any) -> dict[str, Any]:
        """The leaves on disk: whole on the host, or, with several processes, this one's parts."""
        many = jax.process_count() > 1

        def like(leaf: jax.Array) -> Any:
            if many:
                return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            return np.zeros(leaf.shape, leaf.dtype)

        wanted = self._ocp.args.StandardRestore({n: like(x) for n, x in flatten(template).items()})
        found = self._manager.restore(step, args=self._ocp.args.Composite(state=wanted)).state
        return {name: x if many else np.asarray(x) for name, x in found.items()}

    def close(self) -> None:
        self.wait()
        self._manager.close()


def examined(flat: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The digest of each leaf, and the names of variables that are not finite.

    Leaves that lie spread over processes are put together one at a time, so that no host holds all.
    """

    def finite(found: dict[str, np.ndarray]) -> list[str]:
        return [n for n, x in found.items() if n.startswith("state/variables") and not _finite(x)]

    if jax.process_count() == 1:
        return digests(flat), finite(flat)
    leaves: dict[str, str] = {}
    bad: list[str] = []
    for name, leaf in flat.items():
        one = {name: on_host(leaf)}
        leaves, bad = leaves | digests(one), bad + finite(one)
    return leaves, bad


def unflatten(flat: dict[str, Any], template: Any) -> Any:
    """``flat`` in the shape of ``template``, and where its leaves lie."""
    from dl.core.state import like

    def take(path: tuple[Any, ...], leaf: Any) -> jax.Array:
        found = flat[path_name(path)]
        sharding = getattr(leaf, "sharding", None)
        if isinstance(found, jax.Array) or not isinstance(sharding, NamedSharding):
            return jax.numpy.array(found)  # a copy: restored arrays get donated
        # Each device is handed its part alone; again copies.
        return jax.make_array_from_callback(found.shape, sharding, lambda at: np.array(found[at]))

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
    code = re.search(r"os_error_code='(\d+)'", str(error))  # how TensorStore passes errno on
    text = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    text = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or text
    last = f"the last good checkpoint is step {max(whole)}" if whole else "none was saved before"
    return UserError(
        "file-write",
        f"could not save the checkpoint of step {step}: {text}; {last}. Free some space or mend the "
        "folder, then go on with --resume",
    )
