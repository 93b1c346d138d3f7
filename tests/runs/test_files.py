"""A run's folder may come from a stranger: what it holds is read strictly, and nothing is written through it."""

import json
import os
import shutil
import socket
import tracemalloc

import pytest
from folders import run
from mistakes import raises

from dl.cli.commands import report
from dl.report.sweeps import read_lanes
from dl.report.watch import watch_run
from dl.runs.files import PARSED, lies_within, parse, printable, read_plain, replace, sync_tree
from dl.runs.folder import RunFolder, check_name, furthest_unfinished, read_json, write_json
from dl.runs.readers import numbers, read_records, read_result
from dl.runs.records import find_runs, read_run

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
TAIL = '{"event": "eval", "step": 20, "metrics": {}}\n'


@pytest.fixture
def place(tmp_path):
    """A finished run that has a view, and beside it what is not its own."""
    folder = run(tmp_path / "r", [1.0, 0.5], 0.4)
    (folder / "views").mkdir()
    (tmp_path / "secret").write_text("SECRET")
    return folder


def page(place, capsys=None):
    report((place,), inspect=0)
    return (place / "report.html").read_text()


# -- links and odd files -----------------------------------------------------------------------------


def test_no_link_out_of_the_folder_is_followed(place):
    for name in ("a-1.txt", "a-2.png"):
        (place / "views" / name).symlink_to(place.parent / "secret")
    assert "SECRET" not in page(place)
    (place / "views").rename(place / "own")
    away = place.parent / "away"
    away.mkdir()
    (away / "b-1.txt").write_text("SECRET")
    (place / "views").symlink_to(away)
    assert "SECRET" not in page(place)
    assert read_run(place).views() == {}


def test_a_link_within_the_folder_is(place):
    (place / "kept.txt").write_text("drawn once")
    (place / "views" / "a-1.txt").symlink_to(place / "kept.txt")
    assert "drawn once" in page(place)


@pytest.mark.parametrize("name", ["config.json", "run.lock.json", "result.json", "metrics.jsonl"])
def test_a_record_that_is_a_link_or_a_pipe_is_named(place, name):
    stolen = place.parent / "stolen"
    (place / name).rename(stolen) if (place / name).exists() else stolen.write_text(TAIL)
    (place / name).symlink_to(stolen)
    with raises("record-damaged", name, "is a link out of the folder"):
        find_runs([place])
    for make in (os.mkfifo, os.mkdir):
        (place / name).unlink()
        make(place / name)
        with raises("record-damaged", name, "is no plain file"):
            find_runs([place])
        (place / name).rename(place / f"was-{make.__name__}-{name}")
        (place / name).touch()


def test_a_pipe_among_the_views_holds_nothing_up(place):
    os.mkfifo(place / "views" / "f-1.txt")
    (place / "views" / "b-1.txt").write_bytes(b"\xff\xfe and more")
    (place / "views" / "huge-1.txt").touch()
    os.truncate(place / "views" / "huge-1.txt", 2**40)
    assert "and more" in (text := page(place))
    assert "huge, step 1: 1,099,511,627,776 bytes are not shown" in text


def test_a_pipe_or_a_socket_among_files_to_sync_holds_nothing_up(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as odd:
        odd.bind(os.path.relpath(tmp_path / "socket"))
        sync_tree(tmp_path)


@pytest.mark.parametrize("name", ["report.html", "report.html.part"])
def test_nothing_is_written_through_a_link(place, name):
    victim = place.parent / "victim"
    victim.write_text("keep")
    (place / name).symlink_to(victim)
    assert "<html" in page(place)
    assert victim.read_text() == "keep"
    assert not (place / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["metrics.jsonl", ".writer"])
def test_no_run_writes_through_a_link(tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_text("keep")
    folder = RunFolder(tmp_path / "r")
    folder.path.mkdir()
    (folder.path / name).symlink_to(victim)
    with raises("file-write", "r"), folder.held():
        folder.append(folder.metrics, {"event": "eval", "step": 1, "metrics": {}})
    assert victim.read_text() == "keep"


def test_a_link_to_another_run_is_left_out(place, capsys):
    elsewhere = run(place.parent / "elsewhere" / "other", [1.0], 0.1)
    runs = place.parent / "runs"
    run(runs / "own", [1.0], 0.2)
    (runs / "linked").symlink_to(elsewhere)
    assert [found.name for found in find_runs([runs])] == ["own"]
    assert "left out: " in (said := capsys.readouterr().err)
    assert said.count("\n") == 1
    assert [found.name for found in find_runs([runs / "linked"])] == ["linked"]


def test_links_to_the_folder_itself_are_no_ways_to_go(place):
    own = place.parent / "runs"
    run(own / "deep" / "a", [1.0], 0.2)
    for number in range(100):
        (own / f"b{number}").symlink_to(own)
    assert [found.name for found in find_runs([own])] == ["a"]


# -- records -----------------------------------------------------------------------------------------

LINES = {
    "no event": '{"step": 3}',
    "no step": '{"event": "eval", "metrics": {}}',
    "a step in words": '{"event": "eval", "step": "3", "metrics": {}}',
    "a step that is true": '{"event": "eval", "step": true, "metrics": {}}',
    "a step below 0": '{"event": "eval", "step": -1, "metrics": {}}',
    "a huge step": '{"event": "eval", "step": 1' + "0" * 400 + ', "metrics": {}}',
    "metrics in a list": '{"event": "eval", "step": 3, "metrics": [1]}',
    "an event that is none": '{"event": 3, "step": 3, "metrics": {}}',
    "a literal NaN": '{"event": "eval", "step": 3, "metrics": {"validation/loss": NaN}}',
    "a literal Infinity": '{"event": "eval", "step": 3, "metrics": {"validation/loss": -Infinity}}',
    "very deep": '{"step":1,"event":"eval","metrics":' + "[" * 200_000 + "]" * 200_000 + "}",
    "deep": '{"step":1,"event":"eval","metrics":{"a":' + "[" * 500 + "]" * 500 + "}}",
    "a list": "[1]",
    "nothing": "",
    "leaves in a list": '{"step": 3, "leaves": ["x"]}',
    "leaves without digests": '{"step": 3, "leaves": {"state/step": 3}}',
}


@pytest.mark.parametrize("what", LINES)
def test_a_line_that_is_no_record_is_named(place, what):
    with (place / "metrics.jsonl").open("a") as file:
        file.write(LINES[what] + "\n" + TAIL)
    with raises("record-damaged", "metrics.jsonl is damaged in line 3"):
        list(read_records(place / "metrics.jsonl"))
    with raises("record-damaged", "metrics.jsonl is damaged in line 3"):
        find_runs([place])


@pytest.mark.parametrize("last", [*LINES.values(), '{"step": 1', '{"event": "eval"'])
def test_a_last_line_cut_short_is_left_out(place, last):
    (place / "metrics.jsonl").write_text(TAIL + last)
    assert [line["step"] for line in read_records(place / "metrics.jsonl")] == [20]


def test_lines_are_read_one_at_a_time_and_values_have_a_limit(place):
    (place / "metrics.jsonl").write_bytes(b"\n" * 50_000_000)  # the list of which takes 400 MB
    tracemalloc.start()
    with raises("record-damaged", "metrics.jsonl is damaged in line 1"):
        list(read_records(place / "metrics.jsonl"))
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    os.truncate(place / "config.json", PARSED + 1)
    with raises("record-damaged", "config.json has 134,217,729 bytes: too many"):
        find_runs([place])


def test_odd_bytes_are_damage(place):
    (place / "metrics.jsonl").write_bytes(
        TAIL.replace("eval", "\xe9").encode("latin-1") + TAIL.encode()
    )
    with raises("record-damaged", "line 1"):
        list(read_records(place / "metrics.jsonl"))
    (place / "config.json").write_bytes(b'{"config": "\xff"}')
    with raises("record-damaged", "config.json is not valid JSON"):
        read_run(place)


def test_huge_numbers_are_infinite_on_a_page_and_in_a_terminal(place, capsys):
    huge = ["1" + "0" * 400, "1" + "0" * 5000, "1e400", "1e308", "-1e308", str(2**70)]
    metrics = ", ".join(f'"validation/m{place}": {value}' for place, value in enumerate(huge))
    with (place / "metrics.jsonl").open("a") as file:
        file.write(f'{{"event": "eval", "step": 30, "metrics": {{{metrics}}}}}\n' + TAIL)
    page(place)
    watch_run(place, once=True)
    assert "validation -inf" in capsys.readouterr().out
    assert [*numbers({"a" * 10**6: 1})] == ["a" * 200]  # a longer title takes minutes to draw
    assert numbers({"a": 10**400, "b": -(10**400), "c": 2**70})["a"] == float("inf")


RECORDS = {
    "config.json": [{"steps": "many"}, {"steps": None}],
    "run.lock.json": [{"script": 7}, {"environment": None}, {"environment": []}],
    "result.json": [
        *({"selected": x} for x in (None, [], {"rule": 3, "step": 1}, {"step": "1"}, {"rule": None})),
        *({"wall_seconds": x} for x in ("x", [], {})),
        {"metrics": [1]}, {"ended": 3}, {"steps": "x"}, {"digest": 4}, {"peak_memory_bytes": "all"},
    ],
    "baselines.json": [{"a": 3}, {"a": {"test/loss": "low"}}, {"a": {"test/loss": [1]}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in RECORDS.items() for change in changes]
)
def test_an_entry_of_another_type_is_named(place, name, change):
    file = place / name
    found = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(found | change))
    with raises("record-damaged", name):
        find_runs([place])


def test_a_bad_run_is_left_out_of_a_page_in_one_line(tmp_path, capsys):
    for name in ("a", "b", "c"):
        run(tmp_path / name, [1.0], 0.2)
    (tmp_path / "b" / "result.json").write_text("{")
    (tmp_path / "c" / "metrics.jsonl").write_text("x\n" + TAIL)
    report((tmp_path,), inspect=0)
    said = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[0] for line in said] == ["left out", "left out"]
    found = (tmp_path / "report.html").read_text()
    assert "1 run: 1 done" in found


def test_a_sweep_of_odd_fields_is_shown_or_refused(tmp_path):
    run(tmp_path / "lanes" / "0", [1.0], 0.2)
    spec = tmp_path / "sweep.json"
    for overrides, fields in (
        ([{"widths": [16, 16]}], {"widths": "16×16"}),
        ([{f"a{ESCAPE}": 1}], {printable(f"a{ESCAPE}"): 1}),
    ):
        spec.write_text(json.dumps({"spec": {"overrides": overrides}}))
        assert read_lanes(tmp_path)[0]["fields"] == fields
    for odd in ({"spec": 3}, {"spec": {"overrides": 3}}, {"spec": {"overrides": [3]}}):
        spec.write_text(json.dumps(odd))
        with raises("record-damaged"):
            read_lanes(tmp_path)
    shutil.rmtree(tmp_path / "lanes")
    with raises("not-a-sweep"):
        read_lanes(tmp_path)


def test_control_characters_reach_no_terminal(place, capsys):
    line = {"event": "eval", "step": 30, "metrics": {f"validation/{ESCAPE}": 1.0}}
    with (place / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n" + TAIL)
    odd = place.rename(place.parent / f"r{ESCAPE}")
    watch_run(odd, once=True)
    (odd / "result.json").write_text("{")
    run(place.parent / "good", [1.0], 0.2)
    report((place.parent,), inspect=0)
    told = capsys.readouterr()
    assert "\x1b]0" not in told.out + told.err
    assert "\x07" not in told.out + told.err
    assert "left out" in told.err


def test_a_page_holds_no_control_character(place):
    said = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**said, "config": {f"a{ESCAPE}": "\u202eb"}}))
    text = page(place)
    assert "a�]0;owned�".encode("ascii", "xmlcharrefreplace").decode() in text
    assert not any(code in text for code in ("\x1b", "\x07", "&#8238;"))


def test_what_a_terminal_may_show():
    assert printable("a\tb\nc\x1b[2Jé\x9b‮") == "a b c�[2Jé��"
    assert printable("a\u2028b\u200bc\xad\u200fd\ufeff") == "a b�c��d�"
    assert printable("می\u200cخواهم") == "می\u200cخواهم"  # a joiner is of the word
    assert numbers({"a\x1b": 1}) == {"a�": 1}


def test_strict_json():
    assert parse(b'{"a": [1, 2.5, "x", null, true]}') == {"a": [1, 2.5, "x", None, True]}
    assert parse("1" * 400) == float("inf")
    for bad in (
        "NaN",
        "[Infinity]",
        b'"\xff"',
        "[" * 65 + "]" * 65,
        '{"a":' * 200 + "1" + "}" * 200,
    ):
        with pytest.raises(ValueError, match=r"is no JSON|decode|too deep"):
            parse(bad)


def test_a_file_is_replaced_whole(tmp_path):
    file = tmp_path / "x"
    replace(file, b"1")
    replace(file, b"22")
    assert read_plain(file) == b"22"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert lies_within(file, tmp_path)
    assert not lies_within(tmp_path, file)


# -- names and beginnings ----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["run", "sweep"])
@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "a/b",
        "/a",
        "../a",
        "a\nb",
        "a\x1bb",
        "a\0b",
        "x" * 201,
        "é" * 101,
        5,
        ".a.removing",
    ],
)
def test_names_that_are_no_folder_s(tmp_path, what, name):
    with raises("name-malformed", what):
        check_name(tmp_path, name, what, resume=True)


@pytest.mark.parametrize("name", ["a.part", "a.removing", ".part-a"])
def test_a_name_that_may_be_given_is_listed(tmp_path, name):
    check_name(tmp_path, name, "run", resume=False)
    run(tmp_path / name, [1.0], 0.2)
    assert [found.name for found in find_runs([tmp_path])] == [name]


@pytest.mark.parametrize("what", ["run", "sweep"])
@pytest.mark.parametrize("resume", [True, False])
def test_what_a_kill_at_the_start_leaves_blocks_no_name(tmp_path, what, resume):
    record = {"run": "config.json", "sweep": "sweep.json"}[what]
    (tmp_path / "a").mkdir()
    for name in (".writer", "run.lock.json.part", "run.lock.json", f"{record}.part"):
        (tmp_path / "a" / name).touch()
        check_name(tmp_path, "a", what, resume)
    (tmp_path / "a" / "notes.txt").touch()
    with raises("folder-not-empty"):
        check_name(tmp_path, "a", what, resume)


def test_a_damaged_run_beside_blocks_no_resume(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "config.json", {"x": 1})
    (tmp_path / "b" / "config.json").write_text("{")
    assert furthest_unfinished(tmp_path, {"x": 1}).name == "a"


def test_what_is_no_run_says_so(tmp_path):
    (tmp_path / "file").touch()
    with raises("not-a-run", "is a file"):
        read_json(tmp_path / "file" / "config.json")
    with raises("not-a-run", "is missing"):
        read_json(tmp_path / "config.json")
    assert read_result(tmp_path) == {}
