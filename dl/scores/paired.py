"""Texts that are written and those that they are held against."""

from collections.abc import Sequence

from dl.core.errors import UserError


def paired(**texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Both of two sequences as lists, each under what its texts are called, the references last.

    Raises:
      UserError: they differ in length.
    """
    (said, ours), (held, theirs) = ((name, list(some)) for name, some in texts.items())
    if len(ours) != len(theirs):
        raise UserError(
            "counts-differ",
            f"there are {len(ours)} {said} and {len(theirs)} {held}: give one {held.removesuffix('s')} for each",
        )
    return ours, theirs
