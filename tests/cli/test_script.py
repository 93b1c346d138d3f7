"""Commands that are printed can be typed, flags that are named are there, and what is in their way is told."""

import ast
import dataclasses
import inspect
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from mistakes import one_line, raises

import dl
from dl.cli.arguments import again
from dl.cli.commands import COMMANDS
from dl.cli.script import _memory_advice
from dl.data.own.door import Kind, options_of
from dl.platform import no_backend
from dl.report.sweeps import print_report
from dl.runs.folder import called_after
from dl.runs.options import Options
from dl.runs.scripts import command, load_script, reads_flags
from dl.sweeps.sweep import Sweep
from dl.training.console import by_number

ROOT = Path(__file__).parents[2]
TINY = ROOT / "tests" / "scripts" / "tiny.py"
KILLED = TINY.with_name("killed.py")
ODD = "it's $HOME & co; (1) ~"  # a name of what shells read otherwise


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """``(folder, script)`` and a run in it, all with names that a shell must have quoted."""
    place = tmp_path_factory.mktemp("odd") / ODD
    place.mkdir()
    script = shutil.copy(TINY, place / f"{ODD}.py")
    done = call(sys.executable, script, *FLAGS, "--name", ODD, cwd=place)
    assert done.returncode == 0, done.stderr
    return place, script, done.stdout


FLAGS = ("--steps", "4", "--widths", "8", "4", "--runs", f"runs of {ODD}")


def call(*command, cwd, **environment):
    return subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**os.environ, **environment},
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip


def shell(line, cwd):
    """A printed command in a shell whose `python` and `dl` are those of the tests."""
    python, path = shlex.quote(sys.executable), {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    given = (
        f'python() {{ {python} "$@"; }}\n'
        f"dl() {{ {python} -c 'from dl.cli.main import main; main()' \"$@\"; }}\n"
    )
    return call("bash", "-c", f"{given}{line}", cwd=cwd, **path)


# -- what is printed can be typed --------------------------------------------------------------------


def lines(said, begin):
    return [line.removeprefix(begin) for line in said.splitlines() if line.startswith(begin)]


def test_next_lines_can_be_typed_and_carry_the_flags(odd):
    place, script, said = odd
    replay, report, seeds = lines(said, "next: ")
    assert shlex.split(seeds) == ["python", str(script), *FLAGS, "--seeds", "3"]
    for line, answer in ((replay, "identical"), (report, "report.html")):
        done = shell(line, place)
        assert done.returncode == 0, done.stderr
        assert answer in done.stdout
    assert shell(f"{seeds} --help", place).returncode == 0


def test_a_stopped_run_says_what_goes_on_with_it(odd):
    place, script, _ = odd
    command = [sys.executable, KILLED, "step:2:SIGTERM", script]
    done = call(*command, *FLAGS, "--name=cut", "--no-progress", cwd=place)
    (line,) = lines(done.stdout, "go on with: ")
    words = ["python", str(script), *FLAGS, "--no-progress", "--name", "cut", "--resume"]
    assert shlex.split(line) == words
    again = shell(line, place)
    assert again.returncode == 0, again.stderr
    assert "test accuracy" in again.stdout


def test_a_sweep_says_what_comes_next(odd):
    place, script, _ = odd
    done = call(sys.executable, script, *FLAGS, "--name", "s & x", "--seeds", "2", cwd=place)
    assert done.returncode == 0, done.stderr
    report, replay = lines(done.stdout, "next: ")
    lane = Path(shlex.split(replay)[-1])
    assert (place / lane / "result.json").exists()
    done = shell(report, place)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


def test_the_name_and_resume_that_were_given_are_not_repeated():
    given = ["--name", "a b", "--steps", "4", "--resume", "--name=c", "--mesh", "data=2"]
    assert again(Path("my run.py"), given) == "python 'my run.py' --steps 4 --mesh data=2"


def test_a_table_cut_short_names_the_sweep_as_it_is_typed(tmp_path, capsys, monkeypatch):
    found = [{"fields": {}, "metrics": {}, "lanes": [], "value": 0.0, "lost": []}] * 30
    monkeypatch.setattr("dl.report.sweeps.settings", lambda lanes: found)
    monkeypatch.setattr("dl.report.sweeps.read_lanes", lambda folder: [])
    print_report(Path("a [b] c"))
    assert "dl sweep report 'a [b] c'" in capsys.readouterr().out


def test_a_plot_outside_a_notebook_says_where_it_lies(odd, capsys):
    place, _, said = odd
    assert f"curves: runs of {ODD}/{ODD}/curves.png" in said
    run = dl.open_run(place / f"runs of {ODD}" / ODD)
    figure = run.plot()
    told = Path(capsys.readouterr().out.removeprefix("curves: ").strip())
    assert told.read_bytes() == figure._repr_png_()
    assert told.read_bytes().startswith(b"\x89PNG")


# -- flags that are named are there ------------------------------------------------------------------


def known_flags():
    """Every flag of the scripts, of a run, of a sweep and of `dl`."""
    names = {"help", "version"}
    for path in [*(ROOT / "experiments").glob("*.py"), TINY]:
        config, build = load_script(path)
        names |= {field.name for field in dataclasses.fields(config)}
        for node in ast.walk(ast.parse(path.read_bytes())):  # its own commands: write, transcribe
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "dl.main":
                for command in node.keywords:
                    function = getattr(sys.modules[build.__module__], ast.unparse(command.value))
                    names |= set(inspect.signature(function).parameters)
    own = map(options_of, get_args(Kind))  # dl data show PATH -- takes them
    for kind in (Options, Sweep, dl.Experiment, *own):  # fields that a script of one's own may have
        names |= {field.name for field in dataclasses.fields(kind)}
    for command in COMMANDS.values():
        names |= set(inspect.signature(command).parameters)
    for path in (ROOT / "tests" / "scripts").glob("*.py"):  # soak and fuzz
        names |= set(re.findall(r'add_argument\("--([\w-]+)"', path.read_text("utf-8")))
    return {name.replace("_", "-") for name in names}


# Flags of srun, git, gcloud, xprof and of the parser.
FOREIGN = {"nodes", "ntasks-per-node", "gpus-per-task", "porcelain", "worker", "command", "logdir"}
FOREIGN |= {"tyro-print-completion", "gpus-per-node", "zone"}
FOREIGN |= {"list", "name-only", "ignore-submodules"}  # git's


def spoken_flags(path):
    """``--flag`` in a page, or in a module's strings."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        strings = (
            node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)
        )
        text = "\n".join(value for value in strings if isinstance(value, str))
    return set(re.findall(r"(?<![\w(-])--([a-z][\w-]*\w)(?![\w:-])", text))


def test_every_flag_that_is_spoken_of_is_there():
    known = known_flags()
    known |= {f"no-{name}" for name in known}
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "colab").glob("*.ipynb")]
    pages += [*(ROOT / "dl").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]
    wrong = {
        (str(path.relative_to(ROOT)), flag)
        for path in pages
        for flag in spoken_flags(path) - known - FOREIGN
        if not flag.startswith("xla_") and path.name != "page.py"  # its style has variables
    }
    assert not wrong


def test_every_dl_command_that_is_spoken_of_is_there():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "dl").rglob("*.py")]
    for path in pages:
        for word in re.findall(r"[`'\"]dl ([a-z]+)", path.read_text(encoding="utf-8")):
            assert word in COMMANDS, f"{path}: dl {word}"


# -- what is in the way is told ----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Rich:
    batch_size: int = 64
    micro_batches: int = 1
    bfloat16: bool = False


@dataclasses.dataclass(frozen=True)
class Poor:
    width: int = 8


@pytest.mark.parametrize(
    ("config", "sweep", "says"),
    [
        (
            Rich(),
            Sweep(),
            (
                "out-of-memory",
                "lower --batch-size (64), raise --micro-batches (1), compute in --bfloat16, or make the model",
            ),
        ),
        (
            Rich(bfloat16=True),
            Sweep(seeds=2),
            ("out-of-memory", "--micro-batches (1), take --lanes map, or make the model"),
        ),
        (Poor(), Sweep(), ("out-of-memory", "out of memory: make the model smaller")),
    ],
    ids=["all", "sweep", "none"],
)
def test_memory_that_runs_out_is_answered_by_the_scripts_own_flags(config, sweep, says):
    for error in (MemoryError(), RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")):
        with raises(*says), _memory_advice(config, sweep):
            raise error
    with pytest.raises(ZeroDivisionError), _memory_advice(config, sweep):
        raise ZeroDivisionError


def refused(done, *says):
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(told) == 1
    assert done.stderr.splitlines()[-1] == told[0]
    one_line(f"{told[0]}\n", *says)


DL = (sys.executable, "-c", "from dl.cli.main import main; main()")


@pytest.mark.parametrize(
    ("platform", "says"),
    [("gpux", "'gpux' is not in the list of known backends"), ("cuda", "no NVIDIA GPU")],
)
@pytest.mark.parametrize(
    "command", [(sys.executable, TINY), (*DL, "plan", TINY)], ids=["run", "dl"]
)
def test_a_platform_that_is_not_there_is_told(tmp_path, platform, says, command):
    if platform == "cuda" and Path("/dev/nvidia0").exists():
        pytest.skip("there is a GPU here")
    done = call(*command, cwd=tmp_path, JAX_PLATFORMS=platform)
    refused(done, "device-missing", f"JAX_PLATFORMS={platform}", says, "set it to cpu")
    assert not list(tmp_path.iterdir())


def test_a_platform_that_is_there_is_no_matter():
    assert no_backend() == ""


@pytest.mark.parametrize("name", ["a[1]", "..\\what?", r"..\b"])
def test_a_folder_that_checkpoints_cannot_be_read_from_is_refused(tmp_path, name):
    done = call(sys.executable, TINY, "--name", name, cwd=tmp_path)
    refused(done, "path-characters", name, "choose another --name or --runs")
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.create_server(("localhost", 0)) as server:
        at = f"localhost:{server.getsockname()[1]}"
        flags = ["--coordinator", at, "--processes", "1", "--process", "0"]
        refused(
            call(sys.executable, TINY, *flags, cwd=tmp_path),
            "processes-unnamed",
            "another program has the port of localhost:",
            "give --coordinator",
        )


@pytest.mark.parametrize(
    ("flags", "environment", "says"),
    [
        (
            ["--coordinator", "here", "--processes", "1", "--process", "0"],
            {},
            ("processes-unnamed", "host:port", "'here'"),
        ),
        ([], {"JAX_NUM_PROCESSES": "two"}, ("processes-unnamed", "JAX_NUM_PROCESSES", "'two'")),
    ],
    ids=["no port", "no number"],
)
def test_processes_that_cannot_find_each_other_are_told(tmp_path, flags, environment, says):
    refused(call(sys.executable, TINY, *flags, cwd=tmp_path, **environment), *says)


PATHS = {
    "nothing to report": (["report"], ("run-unnamed", "give the folder of a run", "dl report")),
    "a page in no folder": (
        ["report", "RUN", "--output", "none/x.html"],
        ("file-write", "none/x"),
    ),
    "a page that is a folder": (
        ["report", "RUN", "--output", "."],
        ("file-write", "the page cannot be ."),
    ),
    "a program that is a folder": (
        ["export", "RUN", "--to", ".", "--platforms", "cpu"],
        ("file-is-folder", "."),
    ),
    "fewer kills than none": (
        ["verify", str(TINY), "--kills", "-1"],
        ("range", "--kills", "0 or more", "-1"),
    ),
    "a file for a folder": (["watch", str(TINY)], ("not-a-run", "tiny.py")),
}


@pytest.mark.parametrize("what", PATHS)
def test_a_path_or_count_that_cannot_be_is_told(odd, tmp_path, what):
    words, says = PATHS[what]
    run = odd[0] / f"runs of {ODD}" / ODD
    refused(call(*DL, *(run if word == "RUN" else word for word in words), cwd=tmp_path), *says)


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"null", b"\xff\xfe", b'{"steps": "x", "metrics": 3}']
)
@pytest.mark.parametrize("name", ["config.json", "run.lock.json", "result.json"])
def test_a_file_that_holds_something_else_is_named(odd, tmp_path, name, content):
    from dl.runs.records import read_run

    shutil.copytree(odd[0] / f"runs of {ODD}" / ODD, tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    if name == "run.lock.json" and content.startswith(b"{"):
        assert read_run(tmp_path / "run").environment == {}
        return
    with raises("record-damaged", name, "restore it from a copy"):
        read_run(tmp_path / "run")


# -- scripts that come with dl, from any folder ------------------------------------------------------


DL = (sys.executable, "-c", "from dl.cli.main import main; main()")


def test_scripts_run_by_name_from_any_folder(tmp_path):
    assert "image_classification" in call(*DL, "list", cwd=tmp_path).stdout
    command = [
        *DL,
        "run",
        "image_classification",
        "--epochs",
        "1",
        "--widths",
        "4",
        "--no-progress",
    ]
    done = call(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert lines(done.stdout, "next: ")[-1].startswith("dl run image_classification --epochs")
    help_of_script = call(*DL, "run", "gpt", "--help", cwd=tmp_path).stdout
    assert "--kv-heads" in help_of_script
    failed = call(*DL, "run", "gpy", cwd=tmp_path).stderr
    one_line(failed, "unknown", "script 'gpy'", "did you mean 'gpt'")


def test_a_script_runs_by_a_path_however_it_is_written(tmp_path):
    shutil.copy(TINY, tmp_path / "mine.py")
    for path in ("mine.py", "./mine.py", f"{tmp_path}//mine.py"):
        done = call(*DL, "run", path, "--steps", "0", cwd=tmp_path)
        one_line(done.stderr, "range", "steps")


def test_dl_run_gives_flags_to_a_script_that_reads_none(tmp_path):
    tiny, plain = TINY.read_text(), tmp_path / "plain.py"
    plain.write_text(
        tiny.replace("dl.main(Config, build)", 'dl.train(build, Config(), name="own")')
    )
    assert plain.read_text() != tiny
    assert reads_flags(TINY)
    assert not reads_flags(plain)
    given = ("--steps", "3", "--name", "short", "--no-progress")
    done = call(*DL, "run", "plain.py", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "runs" / "short" / "config.json").read_text())["steps"] == 3
    assert not (tmp_path / "runs" / "own").exists()
    next_ = lines(done.stdout, "next: ")[-1]
    assert next_.startswith("dl run ")
    assert "plain.py --steps 3" in next_
    assert "--stops" in call(*DL, "run", "plain.py", "--stops", "3", cwd=tmp_path).stderr
    assert command(plain)[1:] == ["-m", "dl", "run", str(plain)]  # for dl verify and dl submit


def test_runs_are_called_after_their_script_and_other_data():
    @dataclasses.dataclass(frozen=True)
    class Config:
        data: str = "digits"

    script = Path("experiments/images.py")
    assert called_after(script, Config()) == "images"
    assert called_after(script, Config("tfds:cmaterdb")) == "images-cmaterdb"
    assert called_after(None, Config("/there/my pets.zip")) == "run-my pets"
    assert called_after(script, Config("hf:nyu-mll/glue:sst2")) == "images-glue:sst2"
    assert called_after(script, Config("to/books:0.7, web:0.3")) == "images-books-web"


def test_data_are_shown_by_name_or_by_path(tmp_path):
    rows = "\n".join(f"{i % 7},{'yes' if i % 3 else 'no'},{i % 3}" for i in range(90))
    (tmp_path / "loans.csv").write_text(f"age,repaid,told\n{rows}\n")
    done = call(*DL, "data", "show", "loans.csv", "--", "--target", "repaid", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "read as table" in done.stderr
    assert "'told' alone takes 100% of the errors away" in done.stdout
    assert (tmp_path / "data-loans.html").exists()
    done = call(*DL, "data", "show", "digits", "--out", "a.html", cwd=tmp_path)
    assert done.stdout == "- nothing odd was found\nwritten: a.html\n"
    failed = call(*DL, "data", "info", "digits", "--kind", "table", cwd=tmp_path)
    one_line(failed.stderr, "option-misplaced", "for dl data show")


def test_metrics_come_in_the_order_of_their_numbers():
    names = ["test/iou_11", "test/accuracy", "test/iou_2", "test/2_of_3", "test/mean_iou"]
    ordered = ["test/2_of_3", "test/accuracy", "test/iou_2", "test/iou_11", "test/mean_iou"]
    assert sorted(names, key=by_number) == ordered
