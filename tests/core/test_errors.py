"""What is missing and what is out of range, each in one line that says what to do."""

import ast
import pickle
import re
import sys
import tomllib
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.errors import UserError, bounded, need, one_line

ROOT = Path(__file__).parents[2]


def test_what_an_error_says_is_one_line():
    assert one_line(ValueError("no route\n  to host ")) == "no route to host"
    assert one_line(TimeoutError()) == "TimeoutError"
    assert one_line(ValueError("x" * 500), 7) == "x" * 7
    assert one_line("") == ""


def test_an_error_cannot_be_made_without_a_code():
    error = UserError("range", "x must be 1 or more, not 0")
    assert (error.code, str(error)) == ("range", "x must be 1 or more, not 0")
    with pytest.raises(TypeError, match="message"):
        UserError("x must be 1 or more, not 0")  # type: ignore
    again = pickle.loads(pickle.dumps(error))  # as from a process that reads data
    assert (type(again), again.code, str(again)) == (UserError, error.code, str(error))


def called(node):
    return getattr(node.func, "id", "") or getattr(node.func, "attr", "")


def codes():
    """``(room, code)`` wherever the library and its scripts make a UserError. A code is spelled out, or that
    of an error caught; or a function takes it, and its callers spell it out."""
    paths = [*(ROOT / "dl").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]
    trees = {path.relative_to(ROOT): ast.parse(path.read_bytes()) for path in paths}
    classes = [n for tree in trees.values() for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    errors = {"UserError"}
    while (
        more := {c.name for c in classes if errors & {getattr(base, "id", "") for base in c.bases}}
        - errors
    ):
        errors |= more
    for path, tree in trees.items():
        room = path.parts[1] if path.parts[0] == "dl" and len(path.parts) > 2 else path.parts[0]
        place = dict.fromkeys(errors, 0)  # of the code among the arguments of a call
        handed_on = set()
        for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
            names = [argument.arg for argument in function.args.args]
            for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
                first = call.args[0] if called(call) in errors and call.args else None
                if getattr(first, "id", "") == "code" and "code" in names:
                    place[function.name] = names.index("code")
                    handed_on.add(first)
        for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call)):
            if called(call) not in place:
                continue
            where = f"{path}:{call.lineno}"
            assert not call.keywords, where
            given = call.args[place[called(call)]]
            if isinstance(given, ast.Constant):
                assert re.fullmatch(r"[a-z]+(-[a-z]+)*", given.value), where
                yield room, given.value
            else:
                caught = isinstance(given, ast.Attribute) and given.attr == "code"
                assert caught or isinstance(given, ast.Starred) or given in handed_on, where


def documented():
    """``{code: heading}`` of docs/errors.md."""
    found, heading = {}, ""
    for line in (ROOT / "docs" / "errors.md").read_text("utf-8").splitlines():
        heading = line.removeprefix("## ") if line.startswith("## ") else heading
        if row := re.fullmatch(r"\| `([a-z-]+)` \| \S.*\. \| \S.*\. \|", line):
            assert row[1] not in found, f"{row[1]} stands twice"
            found[row[1]] = heading
    return found


def test_every_code_is_documented_under_a_room_that_raises_it_and_none_is_dead():
    rooms = {}
    for room, code in codes():
        rooms.setdefault(code, set()).add(room)
    page = documented()
    assert len(page) > 100
    assert set(page) == set(rooms)
    for code, heading in page.items():
        assert heading == "Anywhere" or heading in rooms[code], code
    order = [(heading != "Anywhere", heading, code) for code, heading in page.items()]
    assert order == sorted(order)


def test_need_gives_the_module():
    assert need("json.decoder", extra="any", why="this").JSONDecoder


def test_need_names_package_extra_and_reason(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)  # as where it is not installed
    with raises("package-missing", "word error", "jiwer", "pip install -e '.[speech]'"):
        need("jiwer", extra="speech", why="word error")


def test_need_tells_a_broken_package_from_a_missing_one(monkeypatch, tmp_path):
    (tmp_path / "half_there.py").write_text("import nothing_of_that_name", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with raises("package-missing", "cannot be imported", "nothing_of_that_name"):
        need("half_there", extra="any", why="this")


def needed():
    """``(package, extra)`` of every call of ``need`` in the library and its scripts."""
    for path in [*(ROOT / "dl").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        for call in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "need":
                extra = next(word.value for word in call.keywords if word.arg == "extra")
                yield call.args[0].value.partition(".")[0], extra.value


def test_every_package_asked_for_is_in_the_extra_named():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    found = set(needed())
    assert len(found) >= 8
    for package, extra in found:
        bounds = project["optional-dependencies"][extra]
        assert package in [re.split("[^A-Za-z0-9_-]", bound)[0] for bound in bounds]


def test_every_extra_that_is_spoken_of_is_there():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "colab").glob("*.ipynb")]
    texts += [*(ROOT / "dl").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]
    for path in texts:
        for names in re.findall(r"\bdl\[([a-z,]+)\]", path.read_text("utf-8")):
            assert set(names.split(",")) <= extras["optional-dependencies"].keys(), path


INSIDE = [
    ({"at_least": 0}, (0, 1, 1e9, np.float32(0.5), Fraction(1, 3))),
    ({"above": 0, "at_most": 1}, (1, 0.5, np.float64(1e-9))),
    ({"at_least": 0, "below": 1}, (0, 0.999)),
    ({"at_least": 1, "whole": True}, (1, np.int64(7), 10**20)),
    ({"at_least": 1}, (None, "text", jnp.float32(-1.0))),  # what is no number of Python's passes
]
OUTSIDE = [
    ({"at_least": 0}, (-1, -1e-9, float("nan"), np.float32("nan"), -float("inf"))),
    ({"above": 0, "at_most": 1}, (0, 1.0000001, float("nan"))),
    ({"at_least": 0, "below": 1}, (1, np.float64(1), -0.1)),
    ({"at_least": 1, "whole": True}, (0, 1.5, 2.0, np.float32(3))),
]


@pytest.mark.parametrize(("bounds", "values"), INSIDE, ids=str)
def test_bounded_lets_through(bounds, values):
    for value in values:
        bounded("x", value, **bounds)


@pytest.mark.parametrize(("bounds", "values"), OUTSIDE, ids=str)
def test_bounded_refuses(bounds, values):
    for value in values:
        with raises("range", "x must be "):
            bounded("x", value, **bounds)


def test_bounded_says_the_bounds():
    with raises("range") as error:
        bounded("top_p", 1.5, above=0, at_most=1)
    assert str(error.value) == "top_p must be above 0 and at most 1, not 1.5"
    with raises("range") as error:
        bounded("beams", 0, at_least=1, whole=True)
    assert str(error.value) == "beams must be a whole number, 1 or more, not 0"


def test_what_a_sweep_traces_passes():
    def program(x):
        bounded("x", x, at_least=0)
        return x

    assert jax.jit(program)(-1.0) == -1
