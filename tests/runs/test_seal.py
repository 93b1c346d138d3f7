"""What a finished run recorded is believed where its seal is whole."""

import json
import shutil

import pytest
from mistakes import raises

from dl.core.errors import UserError
from dl.runs.folder import RunFolder, write_json
from dl.runs.seal import check_seal, write_result

LINES = {
    "metrics.jsonl": [
        {"event": "train", "step": 1, "metrics": {"train/loss": 0.5}, "time": {"elapsed": 1.0}},
        {"event": "checkpoint", "step": 1, "metrics": {}, "digest": "0" * 64, "time": {}},
    ],
    "digests.jsonl": [{"step": 1, "leaves": {"params/w": "1" * 64}}],
}


@pytest.fixture
def sealed(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    for name, lines in LINES.items():
        (folder.path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_result(folder, {"metrics": {"test/loss": 0.25, "odd": float("nan")}, "steps": 1})
    check_seal(folder)
    return folder


def refused(folder):
    try:
        check_seal(folder)
    except UserError as error:
        return error.code
    return None


def told(folder):
    """All that the files say but of clocks; None where they cannot be read."""
    try:
        lines = [json.loads(x) for n in LINES for x in (folder.path / n).read_text().splitlines()]
        return json.loads(folder.result.read_text()), [{**line, "time": None} for line in lines]
    except (ValueError, TypeError):
        return None


@pytest.mark.parametrize("name", [*LINES, "result.json"])
def test_it_is_broken_by_every_bit_that_says_something_else(sealed, name):
    file, before = sealed.path / name, told(sealed)
    whole = file.read_bytes()
    for bit in range(0, 8 * len(whole), 11):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(content)
        now = told(sealed)
        if now is None or "seal" in now[0]:  # without, it is a result of an older release
            assert (refused(sealed) is not None) == (now != before), content


def test_a_line_less_is_a_line_too_few(sealed):
    for name in LINES:
        path = sealed.path / name
        kept = path.read_text()
        path.write_text("".join(kept.splitlines(keepends=True)[:-1]))
        with raises("log-changed", name, "restore them"):
            check_seal(sealed)
        path.write_text(kept)
    check_seal(sealed)


def test_a_line_that_went_to_the_other_log_is_missed(sealed):
    metrics, digests = (sealed.path / name for name in LINES)
    *kept, last = metrics.read_text().splitlines(keepends=True)
    moved = json.dumps({**json.loads(last), "leaves": {}}) + "\n"
    metrics.write_text("".join(kept))
    for line in (last, moved):
        digests.write_text(line + json.dumps(LINES["digests.jsonl"][0]) + "\n")
        assert refused(sealed) == "log-changed"


def test_it_says_nothing_of_where_and_when(sealed, tmp_path):
    shutil.copytree(sealed.path, tmp_path / "elsewhere")
    copy = RunFolder(tmp_path / "elsewhere")
    text = copy.metrics.read_text()
    copy.metrics.write_text(text.replace('"elapsed": 1.0', '"elapsed": 2.0'))
    check_seal(copy)


def test_one_from_before_there_were_seals_is_believed(sealed):
    result = json.loads(sealed.result.read_text())
    del result["seal"]
    sealed.result.write_text(json.dumps(result))
    for locked in ({}, {"sealed": False}):
        write_json(sealed.lock, locked)
        check_seal(sealed)
    write_json(sealed.lock, {"sealed": True})
    assert refused(sealed) == "log-changed"
    sealed.lock.write_text("{")
    assert refused(sealed) == "log-changed"
