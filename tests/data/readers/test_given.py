"""Files of the user's are looked into a piece at a time."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dl.data.readers.given import says

SHORT = st.binary(max_size=12).map(lambda text: bytes(b"ab"[byte % 2] for byte in text))


@given(SHORT, st.lists(SHORT.filter(bool), min_size=1, max_size=3), st.integers(1, 5))
def test_words_are_found_wherever_pieces_end(text, words, piece):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "some.json")
        path.write_bytes(text)
        assert says(path, *words, piece=piece) == all(word in text for word in words)
