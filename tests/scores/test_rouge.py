"""ROUGE of summaries, against counts by hand."""

import pytest
from mistakes import raises

from dl.baselines.lead import lead_baselines
from dl.data.own.door import open as open_data
from dl.scores.rouge import rouge

pytest.importorskip("rouge_score")


def test_words_pairs_and_subsequences_in_common_are_counted():
    found = rouge(["the cats run fast", "nothing", ""], ["the cat runs very fast", "x", "y"])
    # Stems: the cat run fast | the cat run very fast: 4 of 4 and of 5; pairs 2 of 3 and of 4; in order 4.
    assert found["rouge_1"].tolist() == pytest.approx([100 * 8 / 9, 0, 0])
    assert found["rouge_2"].tolist() == pytest.approx([100 * 4 / 7, 0, 0])
    assert found["rouge_l"].tolist() == pytest.approx([100 * 8 / 9, 0, 0])
    with raises("counts-differ", "1 summaries", "2 references"):
        rouge(["a"], ["a", "b"])


def test_the_beginning_of_a_text_is_what_a_summary_competes_with(tmp_path):
    rows = [("One two three. Four five six seven eight nine ten.", "one two three")] * 30
    table = tmp_path / "texts.csv"
    table.write_text("source,target\n" + "".join(f"{a},{b}\n" for a, b in rows))
    found = lead_baselines(open_data(table, "pairs"))
    assert found["first sentence"]["test/rouge_l"] == pytest.approx(100)
    assert found["first 8 words"]["test/rouge_1"] == pytest.approx(100 * 6 / 11)
