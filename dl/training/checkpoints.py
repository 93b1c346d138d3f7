"""Checkpoints: written by Orbax in the background, checked by digest before they are believed."""

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dl.core.digests import KINDS, kind_of
from dl.core.errors import UserError, one_line
from dl.parallel import processes
from dl.parallel.sharding import on_host
from dl.runs import store
from dl.runs.files import check_characters, gone, lies_within, sync_tree
from dl.runs.readers import known_to_orbax
from dl.training.leaves import digests, examined, flatten, unflatten
from dl.training.together import Together

CENTURY = 100 * 365 * 24 * 3600  # seconds
FROZEN = ("state/variables/base/", "state/ema/base/")  # see dl.core.adapters
Flat = dict[str, Any]
LOOKS = 20  # of a reader at a run at work, which deletes its older checkpoints
# What a checkpoint said of itself before it had a digest of that too.
BEFORE = {"elapsed", "ended", "step", "digests", "shapes"}


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
    see; it can be read again by any number of them. Into an object store the first writes it alone.

    Args:
      writes: False for a reader, who changes nothing: the run may be at work, or a stranger's.
      kind: of the leaves' digests, which a run's lock says; by default that of new runs.
      base: what the run began with, as ``{digest: array}``, read where it lies. Arrays of the collection
        ``base``, which adapters leave as they are, are not written again where they are among them.
    """

    def __init__(
        self,
        folder: Path,
        writes: bool = True,
        kind: str | None = None,
        base: Callable[[], Flat] = dict,
    ):
        import orbax.checkpoint as ocp

        _quiet()
        self._ocp = ocp
        self.folder, self.writes, self.kind, self.base = folder.absolute(), writes, kind, base
        self._lent: set[str] | None = None  # digests of the base
        check_characters(self.folder)
        if not lies_within(self.folder, self.folder.parent):
            raise UserError(
                "record-damaged", f"{self.folder} is a link out of the run: it is not followed"
            )
        # Of a run in a store each process has a folder of its own.
        self._apart = store.url(self.folder) is not None and jax.process_count() > 1
        self._sender = ThreadPoolExecutor(1) if store.url(self.folder) else None
        self._sent: Future[None] | None = None
        self._together: Together | None = None
        # A manager clears away what it finds unfinished, and counts on no other to delete what it lists.
        manages = writes and (processes.first() or not self._apart)
        self._manager: Any = self._managed() if manages else None
        handler, alone = ocp.CompositeCheckpointHandler(), self._alone() if self._apart else {}
        self._reader = None if manages else ocp.Checkpointer(handler, **alone)
        # One of them lasts as the run does.
        records = self.folder.parent / "config.json", self.folder.parents[1] / "sweep.json"
        self._record = next((path for path in records if path.exists()), None)
        self._saving: int | None = None
        self._keep: set[int] = set()
        self._spoilt: list[int] = []

    def _managed(self) -> Any:
        ocp = self._ocp
        for path in self.folder.glob("[0-9]*") if processes.first() else ():
            if path.is_symlink():  # Orbax neither reads it as a stranger's nor can delete it
                print(f"dl: {path} is a link, not a checkpoint: it is taken away", file=sys.stderr)
                path.unlink()
        # Orbax reads these as it opens: a pipe would hold it up, a link leads elsewhere, and what is not of its
        # types ends it. Without one it goes on.
        for path in self.folder.glob("[0-9]*/_CHECKPOINT_METADATA") if processes.first() else ():
            if path.is_symlink() or not path.is_file() or not known_to_orbax(path):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        options: dict[str, Any] = {"create": True}
        # Orbax measures by the wall clock how long a write takes and how long its threads wait for a
        # folder, and gives up after 20 minutes: a clock set forward would do. Alone, there is no other
        # process to wait for in vain; and the folder can be made at once.
        waits: dict[str, Any] = {"timeout_secs": CENTURY}
        waits["create_directories_asynchronously"] = False
        if self._apart:
            self.folder.mkdir(parents=True, exist_ok=True)
            options = {"create": False} | self._alone()
        elif jax.process_count() > 1:
            processes.on_first_process(lambda: self.folder.mkdir(parents=True, exist_ok=True))
            # Named one by one they wait for each other without the devices, which are training.
            everyone = set(range(jax.process_count()))
            together = ocp.options.MultiprocessingOptions(active_processes=everyone)
            options = {"create": False, "multiprocessing_options": together}
            self._together = Together(ocp.multihost.get_barrier_sync_fn(processes=everyone))
            waits = {"barrier_sync_fn": self._together.sync}
        options |= {
            "enable_async_checkpointing": True,
            "async_options": ocp.AsyncOptions(post_finalization_callback=self._sync, **waits),
            "cleanup_tmp_directories": True,
        }
        return ocp.CheckpointManager(
            self.folder,
            item_names=("state", "meta"),
            options=ocp.CheckpointManagerOptions(**options),
        )

    def _alone(self) -> dict[str, Any]:
        """Orbax's options for a process that waits for no other."""
        own = jax.process_index()
        options = self._ocp.options.MultiprocessingOptions
        return {"multiprocessing_options": options(primary_host=own, active_processes={own})}

    def steps(self) -> list[int]:
        if self._manager:
            return sorted(self._manager.all_steps())
        # Looked up anew, since the run may be at work.
        store.refresh(self.folder.parent)
        names = (path.name for path in self.folder.glob("[0-9]*"))
        return sorted(int(name) for name in names if name.isdecimal())

    def save(self, step: int, tree: Any, meta: dict[str, Any], keep: set[int]) -> dict[str, str]:
        """Begin to write ``tree``; returns its leaf digests. ``keep`` are older steps not to delete,
        besides the newest.

        The arrays are copied to the host first, so the caller may donate them at once.
        """
        self.wait()
        flat = flatten(tree)
        leaves, bad = examined(flat, self.kind)
        if bad:
            raise UserError(
                "state-not-finite",
                f"the state at step {step} is not finite (first leaf: {bad[0]}); it was not saved. "
                "Lower the learning rate or clip gradients",
            )
        meta = {**meta, "step": step, "digests": leaves}
        meta["shapes"] = {name: list(x.shape) for name, x in flat.items()}
        if lent := self._elsewhere(leaves):
            meta["lent"], flat = lent, {n: x for n, x in flat.items() if n not in lent}
        meta["digest"] = _meta_digest(meta)
        if jax.process_count() == 1:
            flat = {name: np.array(leaf) for name, leaf in jax.device_get(flat).items()}
        elif self._apart:  # leaf by leaf, of which the first keeps all
            parts = ((name, on_host(leaf)) for name, leaf in flat.items())
            flat = {name: np.array(leaf) for name, leaf in parts if processes.first()}
        elif jax.local_devices()[0].platform == "cpu":
            # Orbax copies parts from accelerators, but those of a CPU it writes from where they lie, and they
            # are about to be donated.
            flat = {name: jnp.copy(leaf) for name, leaf in flat.items()}
        if not self._manager:
            return leaves
        args = self._ocp.args
        self._saving, self._keep = step, keep
        try:
            while self._spoilt:  # else Orbax saves no step up to theirs, and says nothing
                self._delete(self._spoilt.pop())
            parts = args.Composite(state=args.StandardSave(flat), meta=args.JsonSave(meta))
            save = functools.partial(self._manager.save, step, args=parts)
            self._together.save(save) if self._together else save()
        except OSError as error:
            self._saving = None
            raise self._refused(step, error) from None
        if self._sender:
            self._sent = self._sender.submit(self._settle, step)
        return leaves

    def _elsewhere(self, leaves: dict[str, str]) -> list[str]:
        """The leaves that lie in what the run began with, and need not be written."""
        frozen = [name for name in leaves if name.startswith(FROZEN)]
        if not frozen or jax.process_count() > 1:
            return []
        if self._lent is None:
            try:
                self._lent = set(self.base())
            except UserError:
                self._lent = set()  # gone since: what cannot be read again is written
        return [name for name in frozen if leaves[name] in self._lent]

    def _sync(self) -> None:
        """Have what was written outlast a loss of power before it gets its name, from Orbax's own thread."""
        for place in self.folder.glob(f"{self._saving}.*") if processes.first() else ():
            sync_tree(place)

    def _refused(self, step: int, error: Exception) -> UserError:
        """What to say where the checkpoint of ``step`` could not be written."""
        if self._record and not self._record.exists():
            return gone(self._record.parent)
        code = re.search(r"os_error_code='(\d+)'", str(error))  # how TensorStore passes errno on
        text = one_line(error)
        text = os.strerror(int(code[1])) if code else getattr(error, "strerror", None) or text
        whole = [other for other in self.steps() if other != step]
        last = (
            f"the last good checkpoint is step {max(whole)}" if whole else "none was saved before"
        )
        return UserError(
            "file-write",
            f"could not save the checkpoint of step {step}: {text}; {last}. Free some space or mend the "
            "folder, then go on with --resume",
        )

    def wait(self) -> None:
        """Until the save in progress is whole on disk."""
        if self._saving is None:
            return
        step = self._saving
        try:
            self._sent.result() if self._sent else self._settle(step)
        except UserError:
            raise
        except Exception as error:
            raise self._refused(step, error) from None
        finally:
            self._saving = self._sent = None
        # Only now: until the new one is whole, the newest may turn out damaged.
        for old in self.steps()[:-2]:
            if old not in self._keep:
                self._delete(old)

    def _delete(self, step: int) -> None:
        self._manager.delete(step)
        store.remove(self.folder / str(step))

    def _settle(self, step: int) -> None:
        """Have the checkpoint of ``step`` outlast a loss of power, or whole in its store."""
        self._manager.wait_until_finished()
        self._manager.check_for_errors()
        if processes.first():
            sync_tree(self.folder / str(step))
            store.commit(self.folder / str(step))

    def restore(
        self, template: Any, step: int | None = None, say: Callable[[str], Any] = print
    ) -> tuple[Any, dict[str, Any]] | None:
        """The newest whole checkpoint (or that of ``step``) as ``(tree, meta)``; None if there is none.

        A damaged one is named in one line and the next older one taken. Without a ``template``: leaves by path.
        """
        for _ in range(1 if self.writes else LOOKS):
            found, gone = self._newest_whole(template, step, say)
            if found is not None or not gone:
                break
        return found

    def _newest_whole(
        self, template: Any, step: int | None, say: Callable[[str], Any]
    ) -> tuple[tuple[Any, dict[str, Any]] | None, bool]:
        """As :meth:`restore` tells, and whether one was deleted meanwhile, by the run at work."""
        wanted = processes.on_first_process(
            lambda: self.steps()[::-1] if step is None else [step]  # which the first has by now
        )
        problems = []
        for candidate in wanted:
            try:
                return self._restore(candidate, template), False
            except UserError:
                raise
            except Exception as error:
                if not self.writes and not (self.folder / str(candidate)).exists():
                    return None, True
                problems.append(f"checkpoint {candidate} is damaged ({one_line(error)})")
                self._spoilt.append(candidate)
                say(f"{problems[-1]}; trying the one before it")
        if problems:
            raise UserError(
                "checkpoints-damaged",
                f"no checkpoint in {self.folder} can be read: {'; '.join(problems)}. "
                "Restore the folder from a copy, or start a new run",
            )
        return None, False

    def _restore(self, step: int, template: Any) -> tuple[Any, dict[str, Any]]:
        meta = self._meta(step)
        shapes, stored = meta["shapes"], meta["digests"]
        if template is not None:
            shapes = {name: list(x.shape) for name, x in flatten(template).items()}
        if shapes.keys() != stored.keys():
            odd = sorted(shapes.keys() ^ stored.keys())
            raise UserError(
                "checkpoint-of-another-model",
                f"checkpoint {step} in {self.folder} is of another model or optimiser: "
                f"only one of them has {', '.join(odd[:3])}{' ...' if len(odd) > 3 else ''}",
            )
        for name, shape in meta["shapes"].items():
            if shape != shapes[name]:
                raise UserError(
                    "checkpoint-of-another-model",
                    f"checkpoint {step} in {self.folder} is of another model: {name} has shape "
                    f"{tuple(shape)} there and {tuple(shapes[name])} here",
                )
        lent = {n: stored[n] for n in meta.get("lent", [])}
        flat = processes.all_or_none(lambda: self._read(step, template, lent))
        for kind in KINDS:  # in one order, for processes compute them together
            own = {name: leaf for name, leaf in flat.items() if kind_of(stored[name]) == kind}
            for name, value in digests(own, kind).items():
                if value != stored[name]:
                    raise ValueError(f"{name} does not match its digest")
        return flat if template is None else unflatten(flat, template), meta

    def _meta(self, step: int) -> dict[str, Any]:
        """What the checkpoint says of itself: believed where it is digested, for another step, name, shape or
        clock than was saved is damage; raises ValueError where it is not."""
        store.fill(self.folder / str(step))
        top = self.folder / str(step)
        inside = (Path(at, n) for at, folders, names in os.walk(top) for n in folders + names)
        for path in (top, *inside):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise ValueError(f"{path} is no plain file")
        meta = self._found(step, meta=self._ocp.args.JsonRestore()).meta
        if not meta.keys() <= BEFORE and meta.get("digest") != _meta_digest(meta):
            raise ValueError("what it says of itself does not match its digest")
        if meta["step"] != step:
            raise ValueError(f"it says it is of step {meta['step']}")
        if not isinstance(meta.get("elapsed", 0.0), int | float):
            raise ValueError("its clock is no number")
        return meta

    def _read(self, step: int, template: Any, lent: dict[str, str]) -> dict[str, Any]:
        """The leaves on disk, and those ``lent``: whole on the host, or, with several processes, this one's
        parts."""
        many = jax.process_count() > 1 and not self._apart

        def like(leaf: jax.Array) -> Any:
            if many:
                return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
            return np.zeros(leaf.shape, leaf.dtype)

        base = self.base() if lent else {}
        if template is None:
            # Of arrays that lay on other devices Orbax must be told where to put them.
            handler = self._ocp.StandardCheckpointHandler()
            found = handler.metadata(self.folder / str(step) / "state")
            places = {n: np.zeros(x.shape, x.dtype) for n, x in found.tree.items()}
        else:
            there = {n: x for n, x in flatten(template).items() if n not in lent}
            places = {n: like(x) for n, x in there.items()}
        wanted = self._ocp.args.StandardRestore(places or None)
        found = self._found(step, state=wanted).state
        flat = {name: x if many else np.asarray(x) for name, x in found.items()}
        return flat | {name: base[digest] for name, digest in lent.items()}

    def _found(self, step: int, **wanted: Any) -> Any:
        args = self._ocp.args.Composite(**wanted)
        if self._reader is not None:
            return self._reader.restore(self.folder / str(step), args=args)
        return self._manager.restore(step, args=args)

    def close(self) -> None:
        try:
            self.wait()
            if self._sender:
                self._sender.shutdown()
            (self._reader or self._manager).close()
        finally:
            # A run that was moved or deleted leaves nothing: what was being written makes its folders anew.
            if self.writes and self._record and not self._record.exists():
                own = self.folder.parent
                if own.is_dir() and {path.name for path in own.iterdir()} <= {self.folder.name}:
                    shutil.rmtree(own, ignore_errors=True)


def _meta_digest(meta: dict[str, Any]) -> str:
    own = {name: value for name, value in meta.items() if name != "digest"}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
