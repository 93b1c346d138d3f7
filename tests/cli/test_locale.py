"""Text is UTF-8 whatever the locale, and a screen that lacks a character shows another one."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from mistakes import one_line

ROOT = Path(__file__).parents[2]
OWN = [p for part in ("dl", "experiments", "colab") for p in sorted((ROOT / part).rglob("*.py"))]
# Where a call's encoding stands among its arguments, as a method of a path and as a function.
PLACE = {"read_text": 0, "write_text": 1, "open": 2, "fdopen": 2}
# What else is called `open`: of bytes alone, os.open too, which gives a number; door is dl.data.own.door.
OTHERS = {"Image", "tarfile", "zipfile", "wave", "os", "door"}
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def undecided(tree):
    """Lines of calls that leave the encoding of text to the locale."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call):
            continue
        method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if method else getattr(call.func, "id", "")
        given = {word.arg: word.value for word in call.keywords}
        if name in PLACE:
            owner = call.func.value if method else None
            if name == "open" and isinstance(owner, ast.Name) and owner.id in OTHERS:
                continue
            if isinstance(owner, ast.Attribute) and owner.attr == "data":  # dl.data.open
                continue
            words = [*call.args, given.get("mode")]
            modes = [word.value for word in words if isinstance(word, ast.Constant)]
            if name in ("open", "fdopen") and any(
                isinstance(mode, str) and "b" in mode and set(mode) <= set("rwaxb+")
                for mode in modes
            ):
                continue
            enough = len(call.args) > PLACE[name] + (name == "open" and not method)
            if "encoding" not in given and not enough:
                yield call.lineno
        elif name in ("replace", "_replace"):  # of a value's fields
            continue
        elif {"text", "universal_newlines"} & given.keys() and "encoding" not in given:
            yield call.lineno


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text(x)",
        "path.read_text(errors='replace')",
        "open(x)",
        "open(x, 'w')",
        "path.open('a')",
        "os.fdopen(x, 'w')",
        "subprocess.run(x, text=True)",
    ],
)
def test_the_search_finds(code):
    assert list(undecided(ast.parse(code))) == [1]


@pytest.mark.parametrize(
    "code",
    [
        "path.write_text(x, 'utf-8')",
        "path.read_text(encoding='utf-8')",
        "open(x, 'rb')",
        "path.open('wb')",
        "subprocess.run(x, text=True, encoding='utf-8')",
        "Image.open(x)",
        "os.open(x, os.O_RDONLY)",
        "dataclasses.replace(x, text=None)",
        "dl.data.open(x, 'texts')",
    ],
)
def test_the_search_leaves_alone(code):
    assert not list(undecided(ast.parse(code)))


def test_no_file_is_read_or_written_as_the_locale_has_it():
    found = [f"{p}:{line}" for p in OWN for line in undecided(ast.parse(p.read_bytes()))]
    assert not found


def in_c_locale(*command, cwd):
    environment = {**os.environ, **PLAIN_C}
    words = [os.fsencode(word) for word in command]
    done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, check=False)
    assert b"Traceback" not in done.stderr
    return done


def test_a_run_and_its_report_are_made_and_shown_in_the_c_locale(tmp_path):
    script, config = tmp_path / "size.py", "class Config:"
    tiny = (ROOT / "tests" / "scripts" / "tiny.py").read_text(encoding="utf-8")
    tiny = tiny.replace('"<1"', '"É±"').replace(config, f'{config}\n    unit: str = "µm"\n')
    script.write_text(tiny.replace("ema=0.9", "ema=0.9, views=lambda _: {'said': '±'}"), "utf-8")
    dl = [sys.executable, "-c", "from dl.cli.main import main; main()"]
    for command in (
        [sys.executable, script, "--steps", "4", "--name", "a", "--no-progress"],
        [*dl, "report", "runs/a"],
        [*dl, "watch", "runs/a", "--once"],
    ):
        done = in_c_locale(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs" / "a" / "views" / "said-4.txt").read_bytes() == "±\n".encode()
    page = (tmp_path / "runs" / "a" / "report.html").read_bytes().decode("ascii")
    for words in ("&#201;&#177;", "&#181;m", "<pre>&#177;</pre>"):
        assert words in page
    done = in_c_locale(sys.executable, script, "--name", "läuft", cwd=tmp_path)
    assert done.returncode == 2
    one_line(done.stderr.decode("ascii"), "locale", "set PYTHONUTF8=1")


def test_the_screen_takes_what_its_encoding_lacks(tmp_path):
    code = "from dl.training.console import Console; c = Console(); c.say('0.9 \\xb1 0.1'); c.warn('\\xb1')"
    done = in_c_locale(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout == b"0.9 ? 0.1\n"
    assert done.stderr == b"dl: \\xb1\n"  # Python's own way with errors
