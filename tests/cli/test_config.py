"""`dl config RUN > file.toml` and `--config file.toml`: the same run again, flags on top."""

import dataclasses
import enum
import math
import sys
import tomllib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mistakes import raises

import dl
from dl.cli.arguments import parse
from dl.cli.main import main
from dl.runs import toml
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder, read_json, to_json
from dl.runs.scripts import from_json, load_script

TINY = Path(__file__).parents[1] / "scripts" / "tiny.py"
Config, build = load_script(TINY)


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 2
    slope: float | None = 0.5


class Shade(enum.Enum):
    DARK = 1
    LIGHT = 2


class Level(enum.StrEnum):
    LOW = "low"
    HIGH = "high"


@dataclasses.dataclass(frozen=True)
class Wide:
    """One field of every kind."""

    steps: int = 60
    rate: float = 1e-3
    clip: float | None = 1.0
    name_of: str | None = None
    start: Path | None = None
    flag: bool = False
    kind: Literal["a", "b", 3] = "a"
    widths: tuple[int, ...] = (16,)
    pair: tuple[float, str] = (1.0, "x")
    words: list[str] = dataclasses.field(default_factory=list)
    inner: Inner = Inner()
    shade: Shade = Shade.DARK
    level: Level | None = None
    marks: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class Deep:
    """Fields that a command line has no flags for."""

    several: tuple[Inner, ...] = ()
    limits: tuple[float | None, ...] = ()
    perhaps: Inner | None = None
    by_name: dict[str, int] = dataclasses.field(default_factory=dict)


def read(file, text, *flags):
    file.write_text(text)
    return parse(Wide, build, ["--config", str(file), *flags], "wide.py")


def test_what_is_written_reads_back(tmp_path):
    odd = Wide(
        rate=math.inf, clip=None, name_of='a "b"\\\n\x1b[31m\u202eé😀', start=Path("runs/x"), flag=True,
        kind=3, widths=(), pair=(1e-30, ""), words=["q,", "'"], inner=Inner(3, None),
        shade=Shade.LIGHT, level=Level.HIGH, marks=frozenset("zyx"),
    )  # fmt: skip
    text = toml.written(to_json(dataclasses.asdict(odd)))
    assert "\x1b" not in text
    assert read(tmp_path / "wide.toml", text)[0] == odd
    deep = Deep((Inner(1, None), Inner(2, 0.1)), (1.5, None), Inner(7), {"a": 3})
    (tmp_path / "deep.toml").write_text(toml.written(to_json(dataclasses.asdict(deep))))
    assert toml.over({"config": Deep()}, tmp_path / "deep.toml")["config"] == deep


def test_what_a_run_keeps_is_the_same_in_every_process():
    # The order of a set hangs on the process, and so do addresses; a type has no value to be asked for.
    assert to_json(frozenset("zyx")) == ["x", "y", "z"]
    assert to_json([Shade.LIGHT, Level.LOW, np.float32]) == ["LIGHT", "low", "float32"]
    assert from_json(Wide, {"shade": "LIGHT", "level": "HIGH"}).level is Level.HIGH
    with raises("record-damaged", "Wide", "DARK, LIGHT"):
        from_json(Wide, {"shade": "BRIGHT"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
        | st.text(st.characters(exclude_categories=("Cs",))),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=("Cs",))), inner),
    )
)  # fmt: skip
def test_any_values_are_toml(value):
    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(v) for v in value]
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items()}
        return "none" if value is None else value

    assert tomllib.loads(toml.written({"x": value})) == {"x": plain(value)}


def test_flags_win_over_the_file_and_the_file_over_the_defaults(tmp_path):
    text = "rate = 1\nflag = true\nwidths = [8, 8]\neval_every = 5\nseeds = 3\n[inner]\ndepth = 4\n"
    config, options, sweep = read(
        tmp_path / "a.toml", text, "--no-flag", "--rate", "2", "--seeds", "1"
    )
    assert config == Wide(rate=2.0, widths=(8, 8), inner=Inner(depth=4))
    assert type(config.rate) is float
    assert (options.eval_every, sweep.seeds) == (5, 1)
    again, _, _ = parse(Wide, build, [f"--config={tmp_path / 'a.toml'}"], "wide.py")
    assert again.flag


def test_a_bom_and_windows_line_ends_are_read(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfrate = 0.25\r\nsteps = 7\r\n")
    config, _, _ = parse(Wide, build, ["--config", str(tmp_path / "a.toml")], "wide.py")
    assert (config.rate, config.steps) == (0.25, 7)


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("stepz = 3", "unknown", ("'stepz'", "'steps'")),
        ("[inner]\ndeep = 3", "unknown", ("inner", "'deep'", "'depth'")),
        ("[config]\nsteps = 3", "unknown", ("'config'",)),
        ('steps = "3"', "config-value", ("steps", '"3"', "int")),
        ("steps = 3.0", "config-value", ("steps", "int")),
        ("steps = true", "config-value", ("steps", "true", "int")),
        ("flag = 1", "config-value", ("flag", "bool")),
        ('clip = "no"', "config-value", ("clip", "float", '"none"')),
        ('steps = "none"', "config-value", ("steps", "int")),
        ('kind = "c"', "config-value", ("kind", "'a'")),
        ('widths = [1, "2"]', "config-value", ("widths",)),
        ("pair = [1.0]", "config-value", ("pair",)),
        ("inner = 3", "config-value", ("inner",)),
        ('shade = "GREY"', "config-value", ("shade", "Shade")),
        ('marks = "x"', "config-value", ("marks",)),
        ("[inner]\nslope = true", "config-value", ("inner.slope",)),
        ("steps = ", "file-damaged", ("a.toml", "no TOML")),
        (f"steps = {'9' * 5000}", "file-damaged", ("a.toml", "no TOML")),
        (f"steps = {'[' * 9000}", "file-damaged", ("a.toml", "no TOML")),
        ("#" * (2**24 + 1), "file-damaged", ("a.toml", "16,777,216 bytes")),
        ("steps = 3\nsteps = 4", "file-damaged", ("a.toml", "no TOML")),
    ],
)
def test_a_mistake_in_the_file_is_one_line(tmp_path, text, code, words):
    with raises(code, *words):
        read(tmp_path / "a.toml", text)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    for words, code in (
        (["--config", str(tmp_path / "no.toml")], "file-read"),
        (["--config"], "option-misplaced"),
        (["--config", "a", "--config=b"], "options-exclusive"),
    ):
        with raises(code, "--config"):
            parse(Wide, build, words, "wide.py")
    with raises("option-misplaced", "--folds", "OwnTable"):
        parse(Wide, build, ["--folds", "3"], "wide.py")
    (tmp_path / "b.toml").write_bytes(b"\xff\xfe")
    with raises("file-damaged", "b.toml"):
        parse(Wide, build, ["--config", str(tmp_path / "b.toml")], "wide.py")


def test_no_field_is_called_as_the_flag():
    kind = dataclasses.make_dataclass("Odd", [("config", int, 3)], frozen=True)
    with raises("field-is-flag", "'config'"):
        parse(kind, build, [], "odd.py")


def test_a_run_s_config_trains_it_again_to_the_same_bits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DL_TRACEBACK", "1")
    first = dl.train(
        build, Config(steps=20, learning_rate=0.01, widths=(8, 8)), name="first", eval_every=7,
        precision="float32", script=TINY, progress=False,
    )  # fmt: skip
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["dl", "config", "runs/first"])
    main()
    said = capsys.readouterr().out
    found = tomllib.loads(said)
    assert found["widths"] == [8, 8]
    assert (found["eval_every"], found["precision"]) == (7, "float32")
    assert "save_every" not in found
    assert said.startswith("# runs/first, a run of tiny.py\n")
    (tmp_path / "first.toml").write_text(said)
    for name, flags in (("again", []), ("flags", ["--learning-rate", "0.01", "--dropout", "0.1"])):
        with pytest.raises(SystemExit) as left:
            dl.main(
                Config, build, ["--config", "first.toml", "--name", name, "--no-progress", *flags]
            )
        assert left.value.code == 0
        assert first_difference(first.folder, RunFolder(tmp_path / "runs" / name)) is None
        for file in ("config.json", "run.lock.json"):  # as if the flags had been given
            one, other = (read_json(tmp_path / "runs" / n / file) for n in ("first", name))
            one.pop("script", None), other.pop("script", None)
            assert one == other


@pytest.mark.parametrize(
    "script", sorted((TINY.parents[2] / "experiments").glob("*.py")), ids=lambda path: path.stem
)
def test_every_script_s_values_read_back(script, tmp_path):
    kind, _ = load_script(script)
    text = toml.written(to_json(dataclasses.asdict(kind())))
    (tmp_path / "a.toml").write_text(text)
    assert toml.over({"config": kind()}, tmp_path / "a.toml")["config"] == kind()
