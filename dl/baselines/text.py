"""Logistic regression on the words of a text: what any network that reads has to be compared with."""

from typing import Any

import numpy as np

from dl.baselines.majority import majority
from dl.data.splits import Columns, Splits, row_count, some_rows

ROWS = 200_000  # texts of a part on disk that are looked at


def tfidf(splits: Splits, seed: int = 0) -> dict[str, float]:
    """How often logistic regression on TF-IDF weights of words and pairs of words is right; of up to four
    characters, where a text is one word.

    Of three penalties the one best on validation is kept (Wang & Manning 2012 for how strong such baselines are).

    Args:
      splits: columns ``text`` and ``label``.

    Returns:
      ``{"validation/accuracy": ..., "test/accuracy": ...}``, of the parts that there are.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    parts = {name: _some(part) for name, part in splits.parts.items()}
    texts = {name: [str(text) for text in part["text"]] for name, part in parts.items()}
    least = 2 if len(texts["train"]) > 1000 else 1
    one_word = np.median([len(text.split()) for text in texts["train"]]) < 2  # as of DNA
    cut: dict[str, Any] = {"ngram_range": (1, 2), "token_pattern": r"\w+|[^\w\s]"}
    if one_word:
        cut = {"ngram_range": (1, 4), "analyzer": "char"}
    weigh = TfidfVectorizer(min_df=least, sublinear_tf=True, **cut)
    seen = weigh.fit_transform(texts.pop("train"))
    rows = {name: weigh.transform(some) for name, some in texts.items()}
    found: list[dict[str, float]] = []
    # Fifty classes take half a minute a penalty by the usual solver, one second by this, and are as often right.
    quick: dict[str, Any] = (
        {"solver": "saga", "tol": 1e-3} if parts["train"]["label"].max() > 9 else {}
    )
    for strength in (1.0, 5.0, 25.0):
        model = LogisticRegression(C=strength, max_iter=1000, random_state=seed, **quick)
        model.fit(seen, parts["train"]["label"])
        found.append(
            {
                f"{name}/accuracy": float(np.mean(model.predict(x) == parts[name]["label"]))
                for name, x in rows.items()
            }
        )
    return max(found, key=lambda scores: scores.get("validation/accuracy", 0.0))


def _some(part: Columns) -> Columns:
    """The rows of a part, of one on disk :data:`ROWS` at most."""
    if isinstance(part["text"], np.ndarray) or row_count(part) <= ROWS:
        return part
    return some_rows(part, ROWS)


def text_baselines(splits: Splits) -> dict[str, dict[str, float]]:
    """:func:`tfidf` and the majority, by their names."""
    return {"TF-IDF": tfidf(splits), "majority": majority(splits)}
