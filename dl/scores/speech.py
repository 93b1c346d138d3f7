"""What recognised speech is worth."""

from collections.abc import Sequence

from dl.core.errors import need
from dl.scores.paired import paired


def word_error(truth: Sequence[str], said: Sequence[str]) -> float:
    """Word error rate over all strings together, by jiwer: substituted, deleted and inserted words over
    the words of ``truth``. NaN where ``truth`` holds no word.

    Raises:
      UserError: not as many strings on either side, or jiwer is not installed.
    """
    said, truth = paired(**{"recognised strings": said, "true strings": truth})
    jiwer = need("jiwer", extra="speech", why="word error")
    # Without a true word jiwer gives the number of inserted ones, which is no rate.
    return float(jiwer.wer(truth, said)) if any(map(str.strip, truth)) else float("nan")
