"""Sequences of bases of one's own: FASTA files a class, and equal ones, of either strand, in one part."""

import numpy as np
import pytest

import dl
from dl.data.own.texts import fasta
from dl.data.sets.sequences import equal_strands
from dl.models.genomics import base_codes, other_strand


def written(codes):
    return ["".join("ACGT"[code] for code in row) for row in codes]


def test_a_fasta_file_is_read_by_records():
    assert fasta(">one\r\nACG\r\nTT\r\n\r\n>two |x\nGG GA\n;a remark\nCC\n") == [
        "ACGTT",
        "GGGA",
        "CC",
    ]


def test_equal_strands_have_one_number():
    texts = ["AACG", "TTTT", "CGTT", "aacg", "AAAA", "NACG"]
    found = np.unique(equal_strands(texts), return_inverse=True)[1]
    assert found.tolist() == [0, 1, 0, 0, 1, 2]


@pytest.mark.parametrize("kind", ["fasta", "table"])
def test_repeated_sequences_stay_in_one_part(tmp_path, kind):
    bases = np.random.default_rng(0).integers(0, 4, (60, 12))
    texts = written(bases) + written(other_strand(bases.astype(np.uint8))) + written(bases)
    folder = tmp_path / "genes"
    folder.mkdir()
    if kind == "fasta":
        for name, some in (("yes", texts[::2]), ("no", texts[1::2])):
            (folder / f"{name}.fasta").write_text(
                "".join(f">{n}\n{t[:7]}\n{t[7:]}\n" for n, t in enumerate(some))
            )
    else:
        rows = "".join(f"{'yes' if n % 2 else 'no'}\t{text}\n" for n, text in enumerate(texts))
        folder = tmp_path / "genes.tsv"
        folder.write_text("label\tsequence\n" + rows)
    splits = dl.data.open(folder, "texts", together=True)
    assert sum(splits.info.sizes.values()) == 180
    found = {
        name: set(equal_strands([*texts, *part["text"]])[180:])
        for name, part in splits.parts.items()
    }
    assert not found["train"] & (found["test"] | found["validation"])
    assert not found["test"] & found["validation"]
    assert base_codes(splits.train["text"], 12).max() < 4


def test_published_sequences_keep_theirs_together(data_dir, monkeypatch):
    monkeypatch.setenv("DL_DATA_DIR", str(data_dir))
    splits = dl.data.open("splice", "texts")
    groups = [set(part["group"].tolist()) for part in splits.parts.values()]
    assert not groups[0] & groups[1] | groups[0] & groups[2] | groups[1] & groups[2]
    assert splits.info.sizes == {"train": 2552, "validation": 319, "test": 319}
