"""Kill, damage, fill the disk, move the clock and resume, for as long as you like; every run must end with the
bits of one that nothing befell.

``python tests/scripts/soak.py --minutes 10`` prints how often it struck, what it compared, the losses (a run
that ended with other bits, a traceback, a hang, a damage that a whole older checkpoint should have healed) and
the false alarms (a run refused or called damaged that was only killed). It exits with 1 where there are any,
and keeps their folders. ``--kills`` ends it after so many, ``--only`` names the kinds of run. With ``--store``
runs lie in an object store, which it serves itself (moto and s3fs), and each goes on as on a new machine, that has
nothing but the store; nothing is damaged then, and no disk filled.

Runs are forked from this process, which has imported everything and started nothing, so that a kill costs no
imports.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import jax  # noqa: F401  (imported here once, for every process forked)
import orbax.checkpoint  # noqa: F401

import dl
import dl.cli.main
import dl.figures.curves
import dl.report
import dl.sweeps.sweep
import dl.training.run
from dl.runs import store
from dl.runs.compare import first_difference, leaves, logged
from dl.runs.folder import RunFolder
from dl.runs.scripts import load_script

HERE = Path(__file__).parent
EXPERIMENTS = HERE.parents[1] / "experiments"
OFTEN = ["--log-every", "20", "--eval-every", "200", "--save-every", "100"]
SWEPT = ["--seeds", "2", "--sweep", "learning_rate=1e-3,1e-2", "--lanes", "map"]
KINDS = {
    "digits": (HERE / "tiny.py", ["--steps", "2500", *OFTEN]),
    "sweep": (HERE / "tiny.py", ["--steps", "1000", *SWEPT, *OFTEN]),
    "gpt": (HERE / "small_gpt.py", ["--steps", "600", *OFTEN]),
    "stream": (HERE / "tiny.py", ["--stream", "--steps", "800", *OFTEN]),
    "tabular": (EXPERIMENTS / "tabular.py", ["--epochs", "1", "--no-trees", *OFTEN]),
}
DATA = Path(os.environ.get("DL_TEST_DATA", HERE.parents[2] / "shared" / "data"))
NEEDS = {"tabular": "adult"}
HANGS = 240  # seconds after which a process that no one kills hangs


@dataclasses.dataclass
class Soak:
    """What was done so far, and what came of it."""

    place: Path
    chance: random.Random
    until: float
    most: int
    struck: Counter = dataclasses.field(default_factory=Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    child: int = 0
    bucket: str | None = None
    lives: int = 0
    shown: float = dataclasses.field(default_factory=time.monotonic)

    def over(self) -> bool:
        return time.monotonic() > self.until or self.struck["kills"] >= self.most

    def told(self) -> str:
        s = self.struck
        losses = sum(not line.startswith("false alarm") for line in self.wrong)
        return (
            f"{s['kills']} kills, {s['damages']} damages ({s['refused']} refused in a line), "
            f"{s['disks']} full disks, {s['clocks']} clocks moved; {s['runs']} runs compared, "
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
        shutil.copytree(folder, kept, symlinks=True, copy_function=_copy, dirs_exist_ok=True)
        self.wrong.append(f"{what} ({kind}; see {kept})")
        print(f"\n{self.wrong[-1]}", file=sys.stderr)


# -- processes ---------------------------------------------------------------------------------------


def start(soak: Soak, said: Path, call, clock: float = 0.0) -> int:
    """``call()`` in a process of its own, ``clock`` seconds in the future; its id."""
    child = soak.child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()  # a Ctrl-C is for the soak, which kills it
        for stream, place in (1, os.devnull), (2, said):
            os.dup2(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if clock:
            now = time.time
            time.time = lambda: now() + clock
        call()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(soak: Soak, child: int, now, hangs: float = HANGS) -> tuple[int | None, bool]:
    """The exit status of a process, None where ``now()`` became true first; and whether it hung."""
    limit = time.monotonic() + hangs
    while not now():
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            soak.child = 0
            return os.waitstatus_to_exitcode(status), False
        if time.monotonic() > limit:
            return None, True
        time.sleep(0.002)
    return None, False


def strike(soak: Soak, child: int, number: signal.Signals = signal.SIGKILL) -> int:
    """Kill it; what it ended with."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    code, hung = ended(soak, child, lambda: False)
    if hung:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    soak.child = 0
    return signal.SIGKILL.value if code is None else code


def command(kind: str, runs: Path, name: str):
    """What carries out, or goes on with, the run ``name`` of a kind."""
    script, flags = KINDS[kind]
    options = ["--runs", str(runs), "--name", name, "--resume", "--no-progress"]
    config, build = load_script(script)

    def call() -> None:
        sys.argv = [str(script)]
        os.environ.setdefault("DL_DATA_DIR", str(DATA))
        dl.main(config, build, [*flags, *options])

    return call


# -- moments to kill at ------------------------------------------------------------------------------


def moment(soak: Soak, folder: Path):
    """A function that is true from a moment drawn at random: at any time, as the run trains, as it writes a
    checkpoint, or as it ends."""
    begun, since = time.time_ns(), time.monotonic()
    kind = soak.chance.choices(["any", "trains", "saves", "ends"], [2, 4, 3, 1])[0]
    delay = soak.chance.uniform(0, 4) if kind == "any" else soak.chance.uniform(0, 0.3)
    old = set(folder.rglob("checkpoints/*tmp*"))

    def seen() -> bool:
        if kind == "any":
            return True
        if kind == "saves":
            return bool(set(folder.rglob("checkpoints/*tmp*")) - old)
        if kind == "ends":
            return any(folder.rglob("result.json*"))
        return any(path.stat().st_mtime_ns > begun for path in folder.rglob("metrics.jsonl"))

    def now() -> bool:
        nonlocal since
        with contextlib.suppress(OSError):  # it came and went
            if delay and not seen():
                since = time.monotonic()
        if kind == "saves" and time.monotonic() > since:
            return True
        return time.monotonic() - since > delay

    return now


# -- damages -----------------------------------------------------------------------------------------


def _copy(source: str, target: str) -> None:
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size + 1))


def zero(path: Path, chance: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def link(path: Path, chance: random.Random) -> None:
    """The same bytes, elsewhere."""
    outside = path.parents[len(path.parents) - 4] / f"outside-{chance.random()}"
    shutil.copy2(path, outside)
    path.unlink()
    path.symlink_to(outside)


def fifo(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def added(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.choice([b"\n", b"\0" * 40, b"{}\n", b"[" * 5000, chance.randbytes(30)]))


DAMAGES = (flip, flip, cut, zero, delete, link, fifo, folder_instead, added)


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
    how, path = chance.choice(DAMAGES), chance.choice(sorted(files))
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
        words = sum(_size(shape) for shape in shapes) // len(folders(whole))
        soak.note("bits", 32 * words * len(leaves(mine).keys() & leaves(theirs).keys()))
        soak.note("scalars", sum(map(len, logged(mine).values())))
    soak.note("runs")


def _size(shape: list[int]) -> int:
    size = 1
    for each in shape:
        size *= each
    return size


def attempt(soak: Soak, kind: str, runs: Path, kill: bool) -> tuple[int | None, str]:
    """Carry a run on, to be killed or to its end: its exit status, None where it was killed; what it said."""
    folder, said = worked(soak, runs) / "killed", soak.place / "said"
    clock = soak.chance.uniform(-3e7, 3e7) if soak.chance.random() < 0.2 else 0.0
    if clock:
        soak.note("clocks")
    now = moment(soak, folder) if kill else lambda: False
    child = start(soak, said, command(kind, runs, "killed"), clock)
    code, hung = ended(soak, child, now)
    text = said.read_text(errors="replace")
    if code is None and hung:
        strike(soak, child)
        soak.fail(kind, f"HANGS for {HANGS} s", folder)
        return None, ""
    if code is None:
        gentle = soak.chance.random() < 0.1
        code = strike(soak, child, signal.SIGTERM if gentle else signal.SIGKILL)
        text = said.read_text(errors="replace")
        if code < 0 or gentle:
            soak.note("kills")
            code = None
    if "Traceback" in text or code not in (None, 0, 1, 2):
        soak.fail(kind, f"TRACEBACK, exit {code}: {text.strip()[-300:]}", folder)
        return None, ""
    return code, text


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


def life(soak: Soak, kind: str, whole: Path) -> None:
    """Kill and damage a run until it ends, and compare it."""
    runs = soak.place / "runs"
    folder, spare = runs / "killed", soak.place / "spare"
    shutil.rmtree(runs, ignore_errors=True)
    soak.lives += 1
    if soak.bucket:
        runs = Path(soak.bucket, str(soak.lives))
    kills, befell, pending = soak.chance.randint(2, 8), [], []
    for _ in range(60):
        if not pending and soak.chance.random() < 0.5 and any(folder.rglob("checkpoints/[0-9]*")):
            shutil.rmtree(spare, ignore_errors=True)
            shutil.copytree(folder, spare, symlinks=True)
            if found := damage(soak, folder):
                pending.append(found)
                befell.append(found[0])
        wrong = len(soak.wrong)
        if soak.bucket:
            shutil.rmtree(soak.place / "cache" / "stores", ignore_errors=True)
        code, said = attempt(soak, kind, runs, kill=kills > 0 and not soak.over())
        if len(soak.wrong) > wrong:
            print(f"it had suffered {', '.join(befell)}", file=sys.stderr)
            return
        if code is None:
            kills -= 1
            befell.append("kill")
        elif code == 0:
            if not pending and "damaged" in said and not any(" " in what for what in befell):
                soak.fail(kind, f"false alarm: {said.strip()[-300:]}", folder)
            if soak.bucket:
                copied = start(soak, soak.place / "said", lambda: copy(runs / "killed", folder))
                ended(soak, copied, lambda: False)
            compare(soak, kind, whole, folder, befell)
            return
        elif not pending:
            soak.fail(kind, f"false alarm after {', '.join(befell)}: {said.strip()[-300:]}", folder)
            return
        else:
            what, heals = pending.pop()
            if heals and befell[-1] == what:
                soak.fail(kind, f"NOT HEALED: {what}: {said.strip()[-300:]}", folder)
                return
            soak.note("refused")
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(spare, folder, symlinks=True)
    soak.fail(kind, f"HANGS: it never ended after {', '.join(befell)}", folder)


def looked_at(soak: Soak, kind: str, whole: Path) -> None:
    """Damage a finished run and have ``dl report`` read it: a page or a line, and nothing else changes."""
    runs, said = soak.place / "runs", soak.place / "said"
    shutil.rmtree(runs, ignore_errors=True)
    shutil.copytree(whole, runs / "killed", symlinks=True)
    found = damage(soak, runs / "killed")
    before = contents(runs / "killed")
    words = ["sweep", "report"] if (whole / "lanes").is_dir() else ["report"]

    def report() -> None:
        sys.argv = ["dl", *words, str(runs / "killed")]
        dl.cli.main.main()

    code, hung = ended(soak, start(soak, said, report), lambda: False)
    if hung:
        strike(soak, soak.child)
    text = said.read_text(errors="replace")
    if hung or "Traceback" in text or code not in (0, 1, 2):
        soak.fail(kind, f"READER, exit {code} after {found}: {text.strip()[-300:]}", runs)
    after = contents(runs / "killed")
    lost = [name for name in before if after.get(name) != before[name]]
    if not all(name.endswith((".html", ".png", ".md", ".csv", ".svg")) for name in lost):
        soak.fail(kind, f"READER changed {lost} after {found}", runs)
    soak.note("refused", int(code != 0))


def contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        name, plain = str(path.relative_to(folder)), path.is_file() and not path.is_symlink()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "other"
    return found


def full_disk(soak: Soak, kind: str, whole: Path) -> bool:
    """Let a run fill a small disk, then make the disk larger and go on; False where mounting is not permitted."""
    runs = soak.place / "disk"
    runs.mkdir(exist_ok=True)
    size = sum(path.stat().st_size for path in whole.rglob("*") if path.is_file()) // 1024
    mount = ["mount", "-t", "tmpfs", "-o", f"size={soak.chance.randint(8, size + 8)}k", "soak"]
    try:
        subprocess.run([*mount, str(runs)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    try:
        code, said = attempt(soak, kind, runs, kill=False)
        if code == 0:
            return True
        soak.note("disks")
        larger = ["mount", "-o", f"remount,size={size * 8 + 4096}k", str(runs)]
        subprocess.run(larger, check=True, capture_output=True)
        first = said.strip()[-200:]
        code, said = attempt(soak, kind, runs, kill=False)
        if code == 0:
            compare(soak, kind, whole, runs / "killed", [f"a full disk ({first})"])
        elif code is not None:
            soak.fail(kind, f"NOT RESUMED after {first}: {said.strip()[-300:]}", runs)
    finally:
        subprocess.run(["umount", "-l", str(runs)], check=False, capture_output=True)
    return True


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
    until = time.monotonic() + 60 * minutes
    soak, wholes, disks = Soak(place, random.Random(given.seed), until, given.kills), {}, True
    print(f"seed {given.seed}, in {place}", flush=True)
    status, server = 0, serve(place) if given.store else None
    soak.bucket = "s3:/soak" if given.store else None
    try:
        kinds = [k for k in given.only if k not in NEEDS or (DATA / NEEDS[k]).is_dir()]
        for kind in sorted(set(given.only) - set(kinds)):
            print(f"{kind} is left out: {DATA / NEEDS[kind]} is not there", flush=True)
        while not soak.over():
            for kind in kinds:
                if kind not in wholes:
                    child = start(soak, place / "said", command(kind, place / "whole", kind))
                    if ended(soak, child, lambda: False)[0] != 0:
                        raise SystemExit(f"{kind} fails: {(place / 'said').read_text()[-500:]}")
                    wholes[kind] = place / "whole" / kind
                if soak.over():
                    break
                life(soak, kind, wholes[kind])
                for _ in range(0 if soak.bucket else 3):
                    looked_at(soak, kind, wholes[kind])
                if disks and not soak.bucket and not (disks := full_disk(soak, kind, wholes[kind])):
                    print("no disk is filled: mounting one is not permitted here", flush=True)
    except KeyboardInterrupt:
        status = 130
        if soak.child:
            strike(soak, soak.child)
    finally:
        if server:
            server.terminate()
    print(f"\n{soak.told()}", flush=True)
    if not soak.wrong:
        shutil.rmtree(place, ignore_errors=True)
    return 1 if soak.wrong else status


if __name__ == "__main__":
    sys.exit(main())
