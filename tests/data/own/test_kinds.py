"""What kind files are is told by their endings and folders."""

import pytest
from mistakes import raises

from dl.data.own.door import options_of
from dl.data.own.kinds import guessed_kind


@pytest.mark.parametrize(
    ("kind", "files"),
    [
        ("pictures", ["cat/1.PNG", "dog/2.jpg", "notes.txt"]),
        ("masks", ["images/1.png", "masks/1.png"]),
        ("boxes", ["images/1.jpg", "labels/1.txt"]),
        ("boxes", ["JPEGImages/1.jpg", "Annotations/1.xml"]),
        ("recordings", ["yes/1.wav", "no/2.FLAC"]),
        ("transcripts", ["clips/1.mp3", "train.tsv"]),
        ("transcripts", ["84/121/84-121-0.flac", "84/121/84-121.trans.txt"]),
        ("texts", ["pos/1.txt", "neg/1.txt"]),
        ("texts", ["reviews.jsonl"]),
        ("corpus", ["book.txt", "other.md"]),
        ("table", ["rows.csv"]),
        ("table", ["rows.parquet", ".hidden.png"]),
    ],
)
def test_files_show_their_kind(tmp_path, kind, files):
    for name in files:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    assert guessed_kind(str(tmp_path)) == kind
    if len(files) == 1:
        assert guessed_kind(str(tmp_path / files[0])) == kind


def test_a_named_set_has_its_kind():
    assert guessed_kind("multi30k") == "pairs"
    assert options_of("pairs").__name__ == "OwnPairs"


def test_what_shows_no_kind_is_asked_for(tmp_path):
    (tmp_path / "a.bin").touch()
    with raises("kind-unclear", "--kind", "pictures"):
        guessed_kind(str(tmp_path))
    with raises("data-unknown", "nowhere"):
        guessed_kind(str(tmp_path / "nowhere"))
    with raises("unknown", "'tables'", "did you mean 'table'"):
        options_of("tables")
