"""Kill, damage, fill the disk, move the clock and resume, for as long as you like; every run must end with the
bits of one that nothing befell.

``python tests/scripts/soak.py --minutes 10`` prints how often it struck, what it compared, the losses (a run
that ended with other bits, a traceback, a hang, a damage that a whole older checkpoint should have healed) and
the false alarms (a run refused or called damaged that was only killed). It exits with 1 where there are any,
and keeps their folders. ``--kills`` ends it after so many, ``--only`` names the kinds of run. With ``--store``
runs lie in an object store, which it serves itself (moto and s3fs), and each goes on as on a new machine, that has
nothing but the store; nothing is damaged then, and no disk filled.

Runs are forked from this process, which has imported everything and started nothing, and keep their programs in a
cache, so that a kill costs neither imports nor compilations. Each is told when to strike itself
(`tests/striking.py`), and the kernel ends it.
"""

import argparse
import contextlib
import dataclasses
import faulthandler
import functools
import hashlib
import json
import math
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import damages
import jax
import orbax.checkpoint  # noqa: F401  (imported here once, for every process forked)
import striking

import dl
import dl.cli.main
import dl.figures.curves
import dl.report
import dl.sweeps.sweep
import dl.training.run
from dl.cli import errors
from dl.runs import lock, store
from dl.runs.compare import first_difference, leaves, logged
from dl.runs.folder import RunFolder
from dl.runs.records import find_runs
from dl.runs.scripts import load_script
from dl.training.checkpoints import Checkpoints, digests

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parents[1] / "experiments"
OFTEN = ["--log-every", "20", "--eval-every", "100", "--save-every", "50"]
SWEPT = ["--seeds", "2", "--sweep", "learning_rate=1e-3,1e-2"]
EVEN = ["--batch-size", "48", "--optimizer", "momentum"]
KINDS = {
    "digits": (HERE / "tiny.py", ["--steps", "1000", *OFTEN]),
    "sweep": (HERE / "tiny.py", ["--steps", "400", *SWEPT, "--lanes", "map", *OFTEN]),
    "vmap": (HERE / "tiny.py", ["--steps", "400", *SWEPT, "--lanes", "vmap", *OFTEN]),
    "gpt": (HERE / "small_gpt.py", ["--steps", "300", *OFTEN]),
    "stream": (HERE / "tiny.py", ["--stream", "--steps", "400", *OFTEN]),
    "tabular": (EXPERIMENTS / "tabular.py", ["--epochs", "1", "--no-trees", *OFTEN]),
    "eight": (HERE / "tiny.py", ["--steps", "300", "--mesh", "data=2,fsdp=4", *EVEN, *OFTEN]),
    "dealt": (HERE / "tiny.py", ["--steps", "200", *SWEPT, "--lanes", "map", *OFTEN]),
    "two": (HERE / "tiny.py", ["--steps", "300", "--stream", *EVEN, *OFTEN]),
}
DEVICES = {"eight": 8, "dealt": 8}  # simulated ones
PROCESSES = {"two": 2}  # of one run
DATA = Path(os.environ.get("DL_TEST_DATA", HERE.parents[2] / "shared" / "data"))
NEEDS = {"tabular": "adult"}
HANGS = 240  # seconds in which no thread of a process does a thing, and it hangs
LOOKS = 12  # damaged copies of a finished run that one process looks at


@dataclasses.dataclass
class Soak:
    """What was done so far, and what came of it."""

    place: Path
    chance: random.Random
    until: float
    most: int
    struck: Counter = dataclasses.field(default_factory=Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    children: set[int] = dataclasses.field(default_factory=set)
    bucket: str | None = None
    lives: int = 0
    mounts: bool = False
    shown: float = dataclasses.field(default_factory=time.monotonic)

    def over(self) -> bool:
        return time.monotonic() > self.until or self.struck["kills"] >= self.most

    def told(self) -> str:
        s = self.struck
        losses = sum(not line.startswith("false alarm") for line in self.wrong)
        return (
            f"{s['kills']} kills, {s['damages']} damages ({s['refused']} refused in a line), "
            f"{s['disks']} full disks, {s['frozen']} drives made read-only, {s['lockless']} without locks, "
            f"{s['clocks']} clocks moved; {s['runs']} runs compared, "
            f"{s['bits']:,} bits of states, {s['scalars']:,} scalars; "
            f"losses: {losses}, false alarms: {len(self.wrong) - losses}"
        )

    def note(self, what: str, more: int = 1) -> None:
        self.struck[what] += more
        left = max(self.until - time.monotonic(), 0)
        line = f"{left / 60:5.1f} min left: {self.told()}"
        if sys.stderr.isatty():
            print(f"\r{line}\x1b[K", end="", file=sys.stderr)
        elif time.monotonic() - self.shown > 60:
            self.shown = time.monotonic()
            print(line, flush=True)

    def fail(self, kind: str, what: str, folder: Path) -> None:
        """Note what went wrong, and keep the folder."""
        kept = self.place / f"wrong-{len(self.wrong)}"
        with contextlib.suppress(FileNotFoundError):
            options = {"symlinks": True, "copy_function": damages.copy, "dirs_exist_ok": True}
            shutil.copytree(folder, kept, **options)
        self.wrong.append(f"{what} ({kind}; see {kept})")
        print(f"\n{self.wrong[-1]}", file=sys.stderr, flush=True)


# -- processes ---------------------------------------------------------------------------------------


def start(soak: Soak, said: Path, *calls: Callable[[], object]) -> int:
    """``calls``, one after the other, in a process of its own, whose id is given."""
    child = os.fork()
    if child:
        soak.children.add(child)
        return child
    code = 70
    try:
        os.setsid()  # a Ctrl-C is for the soak, which kills it
        for stream, place in (1, os.devnull), (2, said):
            os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        faulthandler.enable(2)  # one that hangs is aborted, and shows where
        for call in calls:
            call()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(soak: Soak, child: int) -> int | None:
    """What a process ends with; None where it hangs, and is killed."""
    idle, looked = 0.0, time.monotonic()
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if (since := time.monotonic() - looked) > 1:
            looked, (ran, busy) = time.monotonic(), striking.at_work(child)
            idle += 0.0 if busy else since
            if idle > HANGS or ran > 4 * HANGS:
                for number in (signal.SIGABRT, signal.SIGKILL):
                    os.kill(child, number)
                    time.sleep(2)
                os.waitpid(child, 0)
                soak.children.discard(child)
                return None
        time.sleep(0.02)
    soak.children.discard(child)
    return os.waitstatus_to_exitcode(found[1])


def command(kind: str, runs: Path, name: str, more: tuple[str, ...] = ()) -> Callable[[], None]:
    """What carries out, or goes on with, the run ``name`` of a kind."""
    script, flags = KINDS[kind]
    options = ["--runs", str(runs), "--name", name, "--resume", "--no-progress"]
    config, build = load_script(script)

    def call() -> None:
        sys.argv = [str(script)]
        os.environ.setdefault("DL_DATA_DIR", str(DATA))
        if kind in DEVICES:
            os.environ["XLA_FLAGS"] += (
                f" --xla_force_host_platform_device_count={DEVICES[kind]}"
                " --xla_backend_optimization_level=1"
            )
            dl.platform.stop_caching_programs()
        dl.main(config, build, [*flags, *options, *more])

    return call


def commands(kind: str, runs: Path, name: str) -> list[Callable[[], None]]:
    """:func:`command` of each process of a run."""
    count = PROCESSES.get(kind, 1)
    if count == 1:
        return [command(kind, runs, name)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = ("--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process")
    return [command(kind, runs, name, (*flags, str(n))) for n in range(count)]


# -- moments to strike at ----------------------------------------------------------------------------


def strike(soak: Soak, folder: Path) -> tuple[str, Callable[[], None]]:
    """What strikes a run, and a function that has its process wait for a moment drawn at random: at any time, or
    as it writes a file, a checkpoint or its end."""
    chance = soak.chance
    when = chance.choices(["any", "file", "checkpoints", "result.json"], [3, 5, 4, 0.5])[0]
    if when == "any":
        return "kill", functools.partial(striking.after_computing, chance.uniform(0, 4))
    most = {"file": 150, "checkpoints": 100}.get(when, 3)
    number = round(math.exp(chance.uniform(0, math.log(most))))
    delay = chance.choice([0.0, chance.uniform(0, 0.05), chance.uniform(0, 0.5)])
    what, act = "kill", functools.partial(striking.kill, delay)
    if (drawn := chance.random()) < 0.1:
        what, act = "SIGTERM", functools.partial(os.kill, 0, signal.SIGTERM)
    elif drawn < 0.2 and soak.mounts:
        what, act = "frozen", functools.partial(striking.freeze, folder)
    mark = "" if when == "file" else when
    return what, functools.partial(striking.at_file, number, folder, mark, act)


# -- damages -----------------------------------------------------------------------------------------


def damage(soak: Soak, folder: Path) -> tuple[str, bool] | None:
    """Damage one file of a run's folder; in words, and whether an older whole checkpoint must heal it."""
    chance = soak.chance
    stores = [p for p in folder.rglob("checkpoints") if p.is_dir()]
    steps = sorted((p for s in stores for p in s.glob("[0-9]*") if p.name.isdigit()), key=_step)
    files = [p for p in folder.rglob("*") if p.is_file() and not p.is_symlink()]
    heals, drawn = False, chance.random()
    if len(stores) == 1 and len(steps) > 1 and drawn < 0.4:
        files, heals = [p for p in steps[-1].rglob("*") if p.is_file()], True
    elif drawn < 0.85:  # the records, of which there are fewer
        files = [p for p in files if not p.is_relative_to(folder / "checkpoints")]
    if not files:
        return None
    how, path = chance.choice(damages.DAMAGES), chance.choice(sorted(files))
    how(path, chance)
    soak.note("damages")
    return f"{how.__name__} {path.relative_to(folder)}", heals


def _step(path: Path) -> int:
    return int(path.name)


# -- one run's life ----------------------------------------------------------------------------------


def folders(place: Path) -> list[RunFolder]:
    """The run, or the lanes of the sweep, in a folder."""
    lanes = sorted(path for path in place.glob("lanes/*") if path.is_dir())
    return [RunFolder(path) for path in lanes or [place]]


def compare(soak: Soak, kind: str, whole: Path, killed: Path, befell: list[str]) -> None:
    """Hold every bit that both runs recorded against the other's."""
    for mine, theirs in zip(folders(whole), folders(killed), strict=True):
        try:
            different = first_difference(mine, theirs)
            results = [json.loads(x.result.read_bytes()) for x in (mine, theirs)]
            parts = [{k: r[k] for k in ("metrics", "selected", "digest")} for r in results]
            if different is None and parts[0] != parts[1]:
                different = f"the results differ: {parts}"
        except Exception as error:
            different = f"{type(error).__name__}: {error}"
        if different:
            soak.fail(kind, f"OTHER BITS after {', '.join(befell)}: {different}", killed)
            return
        meta = json.loads(next(whole.rglob("checkpoints/*/meta/metadata")).read_bytes())
        shapes = [s for name, s in meta["shapes"].items() if name.startswith("state/")]
        words = sum(map(math.prod, shapes)) // len(folders(whole))
        soak.note("bits", 32 * words * len(leaves(mine).keys() & leaves(theirs).keys()))
        soak.note("scalars", sum(map(len, logged(mine).values())))
    soak.note("runs")


def attempt(soak: Soak, kind: str, runs: Path, kill: bool) -> tuple[int | str, str]:
    """Carry a run on, to be struck or to its end: its exit status, or what struck it; and what it said. Where
    something went wrong, the status is 'wrong'."""
    folder, chance = worked(soak, runs) / "killed", soak.chance
    everywhere: list[Callable[[], object]] = []
    if chance.random() < 0.2:
        everywhere.append(functools.partial(striking.move_clock, chance.uniform(-3e7, 3e7)))
        soak.note("clocks")
    if chance.random() < 0.1 and not soak.bucket:
        everywhere.append(striking.without_locks)
        soak.note("lockless")
    calls, what, wait = commands(kind, runs, "killed"), "", None
    struck: set[int] = set()
    if kill:
        what, wait = strike(soak, folder)
        alone = what != "kill" or chance.random() < 0.7
        struck = {chance.randrange(len(calls))} if alone else set(range(len(calls)))
    said = [soak.place / f"said-{n}" for n in range(len(calls))]
    children = [
        start(soak, said[n], *everywhere, *([wait] if n in struck and wait else []), call)
        for n, call in enumerate(calls)
    ]
    codes = [ended(soak, child) for child in children]
    texts = [each.read_text(errors="replace") for each in said]
    frozen = what == "frozen" and striking.thaw(folder)
    for n, (code, text) in enumerate(zip(codes, texts, strict=True)):
        killed = n in struck and what == "kill" and code in striking.KILLED
        asked = what == "SIGTERM" and code in (-signal.SIGTERM, 128 + signal.SIGTERM)
        # Where JAX notices first, it aborts the others, in many lines of its own.
        asked |= code == -signal.SIGABRT and what == "kill" and "distributed service" in text
        if code is None:
            told = f"HANGS for {HANGS} s ({what} in {sorted(struck)}): {text[-4000:]}"
            soak.fail(kind, told, folder)
        elif "Traceback" in text or not (killed or asked or code in (0, 1, 2)):
            told = f"TRACEBACK, exit {code} ({what} in {sorted(struck)}): {text.strip()[-600:]}"
            soak.fail(kind, told, folder)
        elif (
            code
            and not (killed or asked)
            and text.count("\nerror: ") + text.startswith("error: ") != 1
        ):
            soak.fail(kind, f"NO LINE, exit {code} ({what}): {text.strip()[-600:]}", folder)
        else:
            continue
        return "wrong", ""
    if frozen:
        soak.note("frozen")
    if frozen and any(codes):
        return "frozen", texts[0]
    if what in ("kill", "SIGTERM") and any(codes):
        fell = any(code in striking.KILLED or (code or 0) > 2 or (code or 0) < 0 for code in codes)
        if fell:
            soak.note("kills")
            return what, ""
    return next((code for code in codes if code), 0), "".join(texts)


def worked(soak: Soak, runs: Path) -> Path:
    """The folder in which runs work that belong to ``runs``."""
    return (
        soak.place / "cache" / "stores" / "0" / "s3" / Path(*runs.parts[1:])
        if soak.bucket
        else runs
    )


def copy(run: Path, folder: Path) -> None:
    """Bring a run out of the store."""
    shutil.copytree(store.opened(run), folder)


def serve(place: Path) -> subprocess.Popen:
    """An object store with the bucket ``soak``, as a process; what runs need to find it is in the environment."""
    server = subprocess.Popen(
        [sys.executable, str(HERE / "store.py"), "soak"], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    os.environ |= json.loads(server.stdout.readline()) | {"DL_CACHE": str(place / "cache")}
    return server


def saved(folder: Path) -> int:
    """The newest step that the run, or a sweep, has saved."""
    return max(
        (_step(p) for p in folder.rglob("checkpoints/[0-9]*") if p.name.isdigit()), default=-1
    )


def life(soak: Soak, kind: str, whole: Path) -> None:
    """Kill and damage a run until it ends, and compare it."""
    runs = soak.place / "runs"
    folder = runs / "killed"
    shutil.rmtree(runs, ignore_errors=True)
    soak.lives += 1
    if soak.bucket:
        runs = Path(soak.bucket, str(soak.lives))
    kills, befell = soak.chance.randint(4, 16), []
    pending: list[tuple[str, bool, int]] = []  # damages not refused so far, and the step they found
    for _ in range(200):
        if len(pending) < 4 and soak.chance.random() < 0.7 and (now := saved(folder)) >= 0:
            spare = soak.place / f"spare-{len(pending)}"
            shutil.rmtree(spare, ignore_errors=True)
            options = {"symlinks": True, "copy_function": damages.copy}
            shutil.copytree(folder, spare, **options)
            if found := damage(soak, folder):
                past = all(step < now for *_, step in pending)  # the run has gone on since
                pending.append((found[0], found[1] and past, now))
                befell.append(found[0])
        if soak.bucket:
            shutil.rmtree(soak.place / "cache" / "stores", ignore_errors=True)
        code, said = attempt(soak, kind, runs, kill=kills > 0 and not soak.over())
        if code == "wrong":
            print(f"it had suffered {', '.join(befell)}", file=sys.stderr, flush=True)
            return
        if isinstance(code, str):
            kills -= 1
            befell.append(code)
        elif code == 0:
            if not any(" " in what for what in befell) and "damaged" in said:
                soak.fail(kind, f"false alarm: {said.strip()[-300:]}", folder)
            if soak.bucket:
                ended(soak, start(soak, soak.place / "said", lambda: copy(runs / "killed", folder)))
            compare(soak, kind, whole, folder, befell)
            return
        elif not pending:
            soak.fail(kind, f"false alarm after {', '.join(befell)}: {said.strip()[-300:]}", folder)
            return
        else:
            what, heals, _ = pending.pop()
            if heals and befell[-1] == what:
                soak.fail(kind, f"NOT HEALED: {what}: {said.strip()[-300:]}", folder)
                return
            soak.note("refused")
            shutil.rmtree(folder, ignore_errors=True)
            (soak.place / f"spare-{len(pending)}").rename(folder)
    soak.fail(kind, f"HANGS: it never ended after {', '.join(befell)}", folder)


def read_all(run: Path, whole: Path, alone: bool) -> None:
    """Read every record of a run or a sweep, and of one of a process ``alone`` its newest whole checkpoint, which
    must be one of ``whole``'s: several processes' can be read by their template only."""
    find_runs([run])
    for mine, theirs in zip(folders(whole), folders(run), strict=False):
        if os.path.lexists(theirs.lock):  # which the lanes of a sweep have together
            lock.read(theirs)
        for path in (theirs.metrics, theirs.digests):
            list(theirs.records(path))
        if not alone:
            continue
        checkpoints = Checkpoints(theirs.checkpoints, writes=False)
        found = checkpoints.restore(None, say=lambda line: None)
        checkpoints.close()
        if found is not None:
            flat, meta = found
            known = {r["step"]: r["leaves"] for r in mine.records(mine.digests)}[meta["step"]]
            assert {n: v for n, v in digests(flat).items() if n in known} == known, "OTHER BITS"


def looked_at(soak: Soak, kind: str, whole: Path) -> None:
    """Damage copies of a finished run and have them read: a page, bits or a line of each, and nothing else
    changes."""
    place = soak.place / "looks"
    shutil.rmtree(place, ignore_errors=True)
    found, before = [], []
    report = ["sweep", "report"] if (whole / "lanes").is_dir() else ["report"]
    for n in range(LOOKS):
        run = place / str(n) / "killed"
        shutil.copytree(whole, run, symlinks=True)
        found.append([damage(soak, run) for _ in range(soak.chance.choice((1, 1, 2)))])
        before.append(contents(run))

    def look() -> None:
        errors._leave = sys.exit  # it ends the process, which has others to read
        for n in range(LOOKS):
            os.dup2(os.open(place / f"said-{n}", os.O_WRONLY | os.O_CREAT), 2)
            run, code = place / str(n) / "killed", 0
            sys.argv = ["dl", *report, str(run)]
            try:
                with errors.plain_errors():
                    # A page is dear.
                    read_all(run, whole, kind not in PROCESSES) if n else dl.cli.main.main()
            except SystemExit as left:
                code = left.code if isinstance(left.code, int) else int(left.code is not None)
            except BaseException:
                traceback.print_exc()
                code = 70
            sys.stderr.flush()
            (place / f"code-{n}").write_text(str(code))

    if (ending := ended(soak, start(soak, soak.place / "said", look))) != 0:
        texts = [(place / f"said-{n}") for n in range(LOOKS)]
        *_, last = [each for each in (soak.place / "said", *texts) if each.exists()]
        soak.fail(kind, f"LOOKS end with {ending}: {last.read_text()[-4000:]}", place)
        return
    for n in range(LOOKS):
        run, code = place / str(n) / "killed", int((place / f"code-{n}").read_text())
        text = (place / f"said-{n}").read_text(errors="replace")
        if "Traceback" in text or code not in (0, 2) or (code == 2 and text.count("error: ") != 1):
            soak.fail(kind, f"READER, exit {code} after {found[n]}: {text.strip()[-600:]}", run)
            return
        after = contents(run)
        lost = [name for name in before[n] if after.get(name) != before[n][name]]
        if not all(name.endswith((".html", ".png", ".md", ".csv", ".svg")) for name in lost):
            soak.fail(kind, f"READER changed {lost} after {found[n]}", run)
        soak.note("refused", int(code != 0))


def contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name, plain = str(path.relative_to(folder)), path.is_file() and not path.is_symlink()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "other"
    return found


def full_disk(soak: Soak, kind: str, whole: Path) -> None:
    """Let a run fill a small disk, make it read-only for a while, then make it larger and go on."""
    runs = soak.place / "disk"
    runs.mkdir(exist_ok=True)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1024
    small = ["mount", "-t", "tmpfs", "-o", f"size={soak.chance.randint(8, size + 8)}k", "soak"]
    subprocess.run([*small, str(runs)], check=True, capture_output=True)
    try:
        code, said = attempt(soak, kind, runs, kill=False)
        if code in (0, "wrong"):
            return
        soak.note("disks")
        first = said.strip()[-200:]
        striking.remount(runs, "ro")
        code, said = attempt(soak, kind, runs, kill=False)
        if code not in (1, 2):
            soak.fail(kind, f"exit {code} on a read-only drive: {said.strip()[-300:]}", runs)
            return
        soak.note("frozen")
        striking.remount(runs, f"rw,size={size * 8 + 4096}k")
        code, said = attempt(soak, kind, runs, kill=False)
        if code == 0:
            compare(soak, kind, whole, runs / "killed", [f"a full disk ({first})"])
        elif code != "wrong":
            soak.fail(kind, f"NOT RESUMED after {first}: {said.strip()[-300:]}", runs)
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=False, capture_output=True)


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    words.add_argument("--minutes", type=float, default=10.0)
    words.add_argument("--hours", type=float, default=0.0)
    words.add_argument("--kills", type=int, default=10**9, help="end after so many")
    words.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    words.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    words.add_argument("--store", action="store_true", help="in an object store")
    given = words.parse_args()
    minutes = 60 * given.hours or given.minutes
    place = Path(tempfile.mkdtemp(prefix="dl-soak-"))
    jax.config.update("jax_compilation_cache_dir", str(place / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    until = time.monotonic() + 60 * minutes
    soak, wholes = Soak(place, random.Random(given.seed), until, given.kills), {}
    print(f"seed {given.seed}, in {place}", flush=True)
    status, server = 0, serve(place) if given.store else None
    soak.bucket = "s3:/soak" if given.store else None
    soak.mounts = not soak.bucket and striking.may_mount(place)
    if not soak.bucket and not soak.mounts:
        print("no disk is filled, none made read-only: mounting is not permitted here", flush=True)
    try:
        kinds = [k for k in given.only if k not in NEEDS or (DATA / NEEDS[k]).is_dir()]
        for kind in sorted(set(given.only) - set(kinds)):
            print(f"{kind} is left out: {DATA / NEEDS[kind]} is not there", flush=True)
        while not soak.over():
            for kind in kinds:
                if kind not in wholes:
                    said = place / "said"
                    calls = commands(kind, place / "whole", kind)
                    children = [start(soak, said, call) for call in calls]
                    if any([ended(soak, child) != 0 for child in children]):  # noqa: C419
                        raise SystemExit(f"{kind} fails: {said.read_text()[-500:]}")
                    wholes[kind] = place / "whole" / kind
                if soak.over():
                    break
                life(soak, kind, wholes[kind])
                if not soak.bucket:
                    looked_at(soak, kind, wholes[kind])
                if soak.mounts and soak.chance.random() < 0.3:
                    full_disk(soak, kind, wholes[kind])
    except KeyboardInterrupt:
        status = 130
    finally:
        for child in soak.children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        if server:
            server.terminate()
    print(f"\n{soak.told()}", flush=True)
    if not soak.wrong:
        shutil.rmtree(place, ignore_errors=True)
    return 1 if soak.wrong else status


if __name__ == "__main__":
    sys.exit(main())
