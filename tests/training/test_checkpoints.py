"""What a checkpoint says of itself is believed where it is digested, else it is damage; readers change none."""

import json
import os
import shutil
import threading

import jax.numpy as jnp
import numpy as np
import pytest
from mistakes import raises

from dl.core.state import digest
from dl.training.checkpoints import Checkpoints


def tree(value, size=500):
    return {
        "state": {"variables": {"params": jnp.arange(float(size)) + value}, "step": jnp.int32(2)},
        "totals": {"loss": jnp.float32(value)},
    }


@pytest.fixture
def written(tmp_path):
    """Two checkpoints, and the file in which the newer tells of itself."""
    checkpoints = Checkpoints(tmp_path / "c")
    for step in (1, 2):
        checkpoints.save(
            step, tree(step), {"elapsed": 1.5, "ended": {"a": ["early", ""]}}, keep={1}
        )
    checkpoints.close()
    return tmp_path / "c", tmp_path / "c" / "2" / "meta" / "metadata"


def restored(place, template=None, step=None):
    said = []
    checkpoints = Checkpoints(place, writes=False)
    found = checkpoints.restore(template or tree(0), step, say=said.append)
    checkpoints.close()
    return *found, said


def rename(part):
    def edit(meta):
        first = next(iter(meta[part]))
        meta[part][first[:-1] + chr(ord(first[-1]) ^ 1)] = meta[part].pop(first)

    return edit


EDITS = {
    "the next step": lambda meta: meta.update(step=3),
    "the step before": lambda meta: meta.update(step=1),
    "a step in words": lambda meta: meta.update(step="2"),
    "another clock": lambda meta: meta.update(elapsed=1.25),
    "a clock in words": lambda meta: meta.update(elapsed="abc"),
    "no clock": lambda meta: meta.pop("elapsed"),
    "a leaf's name": rename("digests"),
    "a leaf's name among the shapes": rename("shapes"),
    "a leaf less": lambda meta: meta["digests"].pop("totals/loss"),
    "another shape": lambda meta: meta["shapes"].update({"totals/loss": [2]}),
    "another end": lambda meta: meta["ended"].update(a=["done", ""]),
    "more": lambda meta: meta.update(more=1),
    "another digest": lambda meta: meta.update(digest="0" * 64),
    "a digest by another name": lambda meta: meta.update(dhgest=meta.pop("digest")),
    "a leaf's digest": lambda meta: meta["digests"].update({"totals/loss": "0" * 64}),
}


@pytest.mark.parametrize("what", EDITS)
def test_other_words_of_a_checkpoint_are_damage_and_the_older_is_taken(written, what):
    place, file = written
    meta = json.loads(file.read_text())
    EDITS[what](meta)
    file.write_text(json.dumps(meta))
    found, meta, said = restored(place)
    assert digest(found) == digest(tree(1))
    assert meta["step"] == 1
    (line,) = said
    assert line.startswith("checkpoint 2 is damaged (")


def test_any_bit_of_it_is_damage(written):
    place, file = written
    whole = file.read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(whole), 40):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(content)
        found, meta, _ = restored(place)
        assert digest(found) == digest(tree(meta["step"]))


def test_a_whole_one_of_another_model_is_called_so(written):
    place, _ = written
    with raises("checkpoint-of-another-model", "shape"):
        restored(place, tree(0, size=400))


def test_one_from_before_it_was_digested_is_read(written):
    place, file = written
    meta = json.loads(file.read_text())
    del meta["digest"]
    file.write_text(json.dumps(meta))
    assert restored(place)[1]["step"] == 2


@pytest.mark.parametrize("odd", ["link", "pipe"])
def test_what_is_no_plain_file_is_damage_and_holds_nothing_up(written, odd, tmp_path):
    place, file = written
    file.rename(tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere") if odd == "link" else os.mkfifo(file)
    _, meta, (line,) = restored(place)
    assert meta["step"] == 1
    assert "is no plain file" in line


@pytest.mark.parametrize("odd", ["link", "pipe", "folder", "types", "lists", "brackets"])
def test_what_only_orbax_reads_holds_nothing_up(written, odd, tmp_path):
    place, _ = written
    file = place / "2" / "_CHECKPOINT_METADATA"
    file.unlink()
    os.mkfifo(tmp_path / "pipe")
    content = {"types": '{"init_timestamp_nsecs": "x"}', "lists": '{"metrics": [1]}'}
    content["brackets"] = "[" * 100_000
    if odd in content:
        file.write_text(content[odd])
    else:
        make = {"link": lambda: file.symlink_to(tmp_path / "pipe"), "folder": file.mkdir}
        make.get(odd, lambda: os.mkfifo(file))()
    checkpoints = Checkpoints(place)
    assert checkpoints.restore(tree(0))[1]["step"] == 2
    checkpoints.close()


def test_links_in_place_of_checkpoints_are_not_followed(written, tmp_path, capsys):
    place, _ = written
    (place / "2").rename(tmp_path / "elsewhere")
    (place / "2").symlink_to(tmp_path / "elsewhere")
    _, meta, (line,) = restored(place)
    assert meta["step"] == 1
    assert "is no plain file" in line
    Checkpoints(place).close()
    assert "2 is a link, not a checkpoint" in capsys.readouterr().err
    assert not (place / "2").is_symlink()
    assert (tmp_path / "elsewhere" / "_CHECKPOINT_METADATA").exists()
    (place.parent / "other").mkdir()
    (place.parent / "other" / "checkpoints").symlink_to(place)
    for writes in (False, True):
        with raises("record-damaged", "is a link out of the run"):
            Checkpoints(place.parent / "other" / "checkpoints", writes=writes)


def test_a_folder_whose_name_leads_orbax_elsewhere_is_told(written):
    place, _ = written
    for name in ("a[1]", "a\\b", "gs:"):
        shutil.copytree(place, place.parent / name / "checkpoints")
        with raises("path-characters", name, "rename"):
            Checkpoints(place.parent / name / "checkpoints", writes=False)


def test_a_damaged_one_makes_room_for_those_of_earlier_steps(written):
    """Orbax writes nothing of a step up to the newest that it finds, and says nothing of it."""
    place, file = written
    for step in (1, 2):
        shutil.copytree(place / "2", place / str(8 * step))
    file = place / "16" / "meta" / "metadata"
    file.unlink()
    os.mkfifo(file)
    checkpoints, said = Checkpoints(place), []
    _, meta = checkpoints.restore(tree(0), say=said.append)
    assert (meta["step"], len(said)) == (2, 2)  # 8 and 16 say that they are of step 2
    for step in (5, 6):
        checkpoints.save(step, tree(step), {"elapsed": 1.5, "ended": {}}, keep={1})
    checkpoints.close()
    assert sorted(int(path.name) for path in place.iterdir()) == [1, 5, 6]
    found, meta, said = restored(place)
    assert (digest(found), meta["step"], said) == (digest(tree(6)), 6, [])


def test_a_folder_of_checkpoints_elsewhere_is_not_followed(written, tmp_path):
    place, _ = written
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "checkpoints").symlink_to(place)
    with raises("record-damaged", "is a link out of the run"):
        Checkpoints(tmp_path / "run" / "checkpoints", writes=False)


def test_a_reader_changes_nothing_and_needs_nothing(written, tmp_path):
    place, _ = written
    (place / "3.orbax-checkpoint-tmp-1").mkdir()  # being written
    before = sorted((p, p.lstat().st_mtime_ns) for p in place.rglob("*"))
    assert restored(place)[1]["step"] == 2
    assert sorted((p, p.lstat().st_mtime_ns) for p in place.rglob("*")) == before
    nothing = Checkpoints(tmp_path / "none", writes=False)
    assert nothing.steps() == []
    assert nothing.restore(tree(0)) is None
    nothing.close()
    assert not (tmp_path / "none").exists()


def test_readers_beside_a_writer_get_whole_checkpoints_and_harm_none(tmp_path):
    place, over, seen, failed = tmp_path / "c", threading.Event(), [], []

    def read():
        while not over.is_set():
            try:
                if (place / "1").exists() or seen:
                    found, meta, _ = restored(place)
                    assert digest(found) == digest(tree(meta["step"]))
                    seen.append(meta["step"])
            except BaseException as error:
                failed.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    checkpoints = Checkpoints(place)
    for step in range(1, 41):
        checkpoints.save(step, tree(step), {}, keep=set())
    while len(seen) < 3 and not failed:
        pass
    over.set()
    for reader in readers:
        reader.join()
    checkpoints.close()
    if failed:
        raise failed[0]
    assert checkpoints.steps() == [39, 40]
    shutil.rmtree(place)
