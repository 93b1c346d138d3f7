"""A user's mistake, told by its code and by the values that its one line must name."""

import contextlib
from collections.abc import Iterator

import pytest

from dl.core.errors import UserError


@contextlib.contextmanager
def raises(code: str, *words: str) -> Iterator[pytest.ExceptionInfo[UserError]]:
    """Expects a UserError of this code, in one line, that has ``words`` in this order."""
    with pytest.raises(UserError) as caught:
        yield caught
    said = str(caught.value)
    assert caught.value.code == code, said
    assert "\n" not in said
    _in_order(said, words)


def one_line(err: str, code: str, *words: str) -> None:
    """``err``, what a command printed, is one line of an error of this code, with ``words`` in this order."""
    assert err.startswith("error: "), err
    assert err.endswith(f" [{code}]\n"), err
    assert err.count("\n") == 1, err
    _in_order(err.removesuffix(f" [{code}]\n"), words)


def _in_order(said: str, words: tuple[str, ...]) -> None:
    place = 0
    for word in words:
        assert word in said[place:], f"{word!r} is not, or not in this order, in: {said}"
        place = said.index(word, place) + len(word)
