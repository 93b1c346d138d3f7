"""The encoding of a file of text: what its first bytes say, or else the user."""

from dl.core.errors import UserError


def encoding_by_mark(data: bytes) -> str:
    """The encoding that a byte-order mark at the beginning says, else UTF-8."""
    marks = {
        b"\xff\xfe\x00\x00": "utf-32",
        b"\x00\x00\xfe\xff": "utf-32",
        b"\xff\xfe": "utf-16",
        b"\xfe\xff": "utf-16",
    }
    return next((kind for mark, kind in marks.items() if data.startswith(mark)), "utf-8")


def decoded(data: bytes, name: str, encoding: str | None) -> str:
    """The text of a csv file."""
    found = encoding_by_mark(data)
    chosen = encoding or found
    if chosen == "utf-8" and data.count(0) > len(data) // 5:
        raise UserError(
            "encoding",
            f"{name} holds a zero byte beside most characters: say encoding='utf-16-le' or encoding='utf-16-be'",
        )
    try:
        text = data.decode(chosen)
    except UnicodeError as error:  # some codecs say no place
        raise not_text(name, encoding, found, getattr(error, "start", 0), data) from None
    except (LookupError, ValueError):
        raise UserError("unknown", f"encoding {encoding!r} is none that Python knows") from None
    return text.removeprefix("\ufeff")


def not_text(name: str, encoding: str | None, found: str, byte: int, data: bytes) -> UserError:
    """What to say of ``data`` that are not in the ``encoding`` that the user said, or that was ``found``."""
    if encoding is None and found == "utf-8" and 0 in data:
        return UserError(
            "encoding",
            f"{name} holds zero bytes, so it is no file of text, or one in UTF-16: say encoding='utf-16-le' then",
        )
    if encoding is None and found == "utf-8":
        return UserError(
            "encoding",
            f"{name} is not UTF-8 text (byte {byte}): say its encoding, often "
            "encoding='cp1252' for a file of Windows in Western Europe, or save it as UTF-8",
        )
    return UserError("encoding", f"{name} is not {encoding or found} text (byte {byte})")
