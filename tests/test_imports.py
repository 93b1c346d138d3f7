"""Imports run downwards only, and importing the library is cheap."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the ground up: a room imports its own and those below it.
ROOMS = (
    {"interrupts"},
    {"platform"},
    {"core"},
    {"models", "data", "parallel", "scores"},
    {"tasks", "baselines", "interop", "runs", "testing"},
    {"figures"},
    {"report"},
    {"training"},
    {"sweeps", "proofs"},
    {"cli"},
)
PURE = ("core", "models", "tasks", "scores", "testing")
IMPURE_MODULES = {
    "os",
    "pathlib",
    "time",
    "socket",
    "urllib",
    "subprocess",
    "logging",
    "random",
    "rich",
}


def modules(room):
    path = ROOT / "dl" / room
    return sorted(path.rglob("*.py")) or [p for p in [path.with_suffix(".py")] if p.exists()]


def imported(path):
    """Names of modules that the file imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("room", sorted(set().union(*ROOMS)))
def test_imports_run_downwards(room):
    level = next(place for place, rooms in enumerate(ROOMS) if room in rooms)
    allowed = {room}.union(*ROOMS[:level])
    if room == "core":  # pure: it asks nothing of the machine
        allowed.remove("platform")
    for path in modules(room):
        for name in imported(path):
            if name.startswith("dl."):
                assert name.split(".")[1] in allowed, f"{path} imports {name}"
            assert not name.startswith("experiments"), f"{path} imports {name}"


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_touch_no_disk_clock_or_screen(room):
    for path in modules(room):
        for name in imported(path):
            assert name.split(".")[0] not in IMPURE_MODULES, f"{path} imports {name}"
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {c.func.id for c in calls if isinstance(c.func, ast.Name)}
        assert not names & {"print", "open", "input"}, f"{path} calls {names & {'print', 'open'}}"


# What would run code that a checkpoint, a data file or a config carries, or write where it says.
UNPICKLERS = {
    *("pickle", "dill", "cloudpickle", "shelve", "marshal", "joblib", "jsonpickle"),
    *("yaml", "torch", "code", "runpy"),
}
CODE = {"eval", "exec", "compile", "__import__"}
METHODS = {"system", "popen", "extractall", "extract", "unpack_archive", "load_module"}


def test_no_file_that_is_read_can_run_code_or_choose_where_to_write():
    for path in [*(ROOT / "dl").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]:
        roots = {name.split(".")[0] for name in imported(path)}
        assert not UNPICKLERS & roots, path
        for call in ast.walk(ast.parse(path.read_text())):
            if not isinstance(call, ast.Call):
                continue
            given = {word.arg: word.value for word in call.keywords}
            where = f"{path}:{call.lineno}"
            if isinstance(call.func, ast.Name):
                assert call.func.id not in CODE, where
            elif isinstance(call.func, ast.Attribute):
                assert call.func.attr not in METHODS, where
                owner = call.func.value
                if call.func.attr == "load" and isinstance(owner, ast.Name) and owner.id == "np":
                    assert ast.unparse(given["allow_pickle"]) == "False", where
            assert "shell" not in given, where


def test_nothing_opens_a_port():
    servers = {"http.server", "socketserver", "xmlrpc.server", "wsgiref", "aiohttp", "flask"}
    for path in (ROOT / "dl").rglob("*.py"):
        assert not servers & set(imported(path)), path
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        names = {c.func.attr for c in calls if isinstance(c.func, ast.Attribute)}
        assert not names & {"bind", "listen", "create_server", "serve_forever"}, path


def test_files_are_short_enough_to_read():
    for path in (ROOT / "dl").rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
    scripts = {p: len(p.read_text().splitlines()) for p in (ROOT / "experiments").glob("*.py")}
    assert max(scripts.values()) <= 120, max(scripts, key=scripts.get)
    assert sum(scripts.values()) <= 95 * len(scripts), sum(scripts.values()) / len(scripts)


def test_import_dl_brings_in_nothing_heavy():
    code = (
        "import sys, dl; heavy = {'jax', 'tensorflow', 'torch', 'orbax', 'matplotlib', 'sklearn', 'grain',"
        " 'tensorflow_datasets'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there():
    code = "import dl; [getattr(dl, name) for name in dl.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True)
