"""Text to token numbers and back: vocabularies of characters or words, and trained subwords.

Train on the training split alone, and save what was trained in the run's folder.
"""

import collections
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from dl.core.errors import UserError, bounded, need, unknown
from dl.data.readers.files import write_whole
from dl.data.readers.given import check_json, json_in
from dl.data.splits import Columns

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Their numbers are their places here, in every subword and word vocabulary.
SPECIALS = ("[PAD]", "[UNK]", "[BOS]", "[EOS]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, BOS, EOS, CLS, SEP, MASK = range(7)


# A word with the space before it, a mark, or a space: end to end they are the text again.
_PIECES = re.compile(r" ?\w+(?:['’]\w+)*| ?[^\w\s]|\s")

# A word, whatever joins its parts; a character of a script without spaces; the same mark again and again.
_SPACED = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff]|['’]?[^\W_]+(?:['’.\-_/\\*:,&][^\W_]+)*['’]?|[!?]+|([^\w\s])\1*|_+"
)


def spaced(text: str) -> str:
    """``text`` in lower case, with spaces between words and marks, as :func:`words` wants it; a text that is
    so already stays as it is.

    >>> spaced("It's a film-maker's film, really!!")
    "it's a film-maker's film , really !!"
    """
    return " ".join(match[0] for match in _SPACED.finditer(text.lower()))


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Numbers for the characters, the bytes, the words between spaces, or the pieces of a text.

    Attributes:
      symbols: every character, byte, word or piece, at its number's place.
      level: what a symbol is. Pieces are words, marks and white space, a space with the word after it: nothing
        is lost. Bytes are those of UTF-8, each as the character of its number.
    """

    symbols: tuple[str, ...]
    level: Literal["character", "byte", "word", "piece"] = "character"

    def __len__(self) -> int:
        return len(self.symbols)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        return {symbol: number for number, symbol in enumerate(self.symbols)}

    def cut(self, text: str) -> list[str]:
        """The symbols that ``text`` is made of, known or not."""
        if self.level == "byte":
            text = text.encode("utf-8", "surrogatepass").decode("latin-1")
        if self.level in ("byte", "character"):
            return list(text)
        return text.split() if self.level == "word" else _PIECES.findall(text)

    def encode(self, text: str | np.ndarray) -> np.ndarray:
        """Numbers int32 ``[symbols]`` of a string, or of an array of characters.

        What is not in the vocabulary becomes ``[UNK]`` where there is one, else raises UserError.
        """
        if isinstance(text, str) and self.level in ("byte", "character"):
            return self._encode_whole(text)
        parts = self.cut(text) if isinstance(text, str) else np.asarray(text).tolist()
        unknown_, numbers = self.numbers.get("[UNK]", -1), self.numbers
        found = np.fromiter((numbers.get(part, unknown_) for part in parts), np.int32, len(parts))
        self._check_known(found, parts)
        return found

    def _encode_whole(self, text: str) -> np.ndarray:
        """The numbers of a text's characters or bytes, looked up all at once."""
        if self.level == "byte":
            return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)
        found = self._by_code[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)]
        self._check_known(found, text)
        return found

    @functools.cached_property
    def _by_code(self) -> np.ndarray:
        """The number of every character there is, by its code point."""
        table = np.full(0x110000, self.numbers.get("[UNK]", -1), np.int32)
        for number, symbol in enumerate(self.symbols):
            if len(symbol) == 1:
                table[ord(symbol)] = number
        return table

    def _check_known(self, found: np.ndarray, parts: Sequence[str]) -> None:
        if found.size and found.min() < 0:
            said = f"{parts[int(found.argmin())]!r} is not among the {len(self)} symbols known"
            raise UserError("symbol-unknown", said)

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of ``numbers``, padding left out."""
        symbols = [self.symbols[int(number)] for number in numbers]
        if self.level == "byte":
            whole = "".join(symbol for symbol in symbols if len(symbol) == 1)
            return whole.encode("latin-1").decode("utf-8", "replace")
        return (" " if self.level == "word" else "").join(s for s in symbols if s != "[PAD]")

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, whole or not at all."""
        data = json.dumps(dataclasses.asdict(self), ensure_ascii=False).encode()
        write_whole(Path(path), lambda file: file.write(data))


BYTES = Vocabulary((*map(chr, range(256)), "[EOS]"), "byte")


def load_vocabulary(path: str | os.PathLike) -> Vocabulary:
    """What :meth:`Vocabulary.save` wrote."""
    try:
        data = json_in(Path(path))
        symbols, level = data["symbols"], data["level"]
        if not all(isinstance(symbol, str) for symbol in (level, *symbols)):
            raise ValueError("symbols that are no text")
        return Vocabulary(tuple(symbols), level)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError("tokenizer-file", f"{path} is not a saved vocabulary ({error})") from None


def characters(text: str | np.ndarray) -> Vocabulary:
    """The distinct characters of ``text``, in code-point order."""
    distinct = set(text) if isinstance(text, str) else set(np.unique(text).tolist())
    return Vocabulary(tuple(sorted(distinct)))


def words(texts: Iterable[str], *, min_count: int = 1, size: int | None = None) -> Vocabulary:
    """The special symbols, then the words between spaces, most frequent first."""
    return counted("word", texts, min_count=min_count, size=size)


def counted(
    level: Literal["character", "word", "piece"],
    texts: Iterable[str],
    *,
    min_count: int = 1,
    size: int | None = None,
    specials: Sequence[str] = SPECIALS,
) -> Vocabulary:
    """``specials``, then the symbols that come ``min_count`` times or more, most frequent first."""
    bounded("min_count", min_count, at_least=0)
    bounded("the vocabulary's size", size, at_least=len(specials) + 1, whole=True)
    cut = Vocabulary((), level).cut
    counts = collections.Counter(symbol for text in texts for symbol in cut(text))
    ranked = sorted((w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w))
    return Vocabulary((*specials, *ranked)[:size], level)


def train_subwords(
    texts: Iterable[str] | np.ndarray,
    kind: Literal["bpe", "wordpiece"],
    size: int,
    *,
    lowercase: bool = False,
    min_frequency: int = 2,
) -> "Tokenizer":
    """A ``tokenizers.Tokenizer`` of ``size`` subwords trained on ``texts``; SPECIALS come first.

    ``bpe`` is byte-level and loses nothing (Sennrich et al. 2016; Radford et al. 2019);
    ``wordpiece`` is BERT's (Devlin et al. 2019). Save with ``tokenizer.save(path)``.
    """
    if kind not in ("bpe", "wordpiece"):
        raise unknown("tokenizer", kind, ("bpe", "wordpiece"))
    bounded("the vocabulary's size", size, at_least=len(SPECIALS) + 1, whole=True)
    bounded("min_frequency", min_frequency, at_least=0, whole=True)
    if not isinstance(texts, list | tuple | np.ndarray):  # texts that need not fit into memory
        saved = _train(kind, iter(texts), size, lowercase, min_frequency)
    else:
        saved = _trained(kind, tuple(map(str, texts)), size, lowercase, min_frequency)
    return _tokenizers().Tokenizer.from_str(saved)


# An experiment is built several times; its tokenizer is trained once. Kept as JSON, since a tokenizer
# can be changed.
@functools.lru_cache(maxsize=4)
def _trained(kind: str, texts: tuple[str, ...], size, lowercase, min_frequency) -> str:
    return _train(kind, texts, size, lowercase, min_frequency)


def _train(kind: str, texts: Iterable[str], size, lowercase, min_frequency) -> str:
    train = _train_bpe if kind == "bpe" else _train_wordpiece
    return train(_tokenizers(), texts, size, lowercase, min_frequency).to_str()


def _train_bpe(tokenizers, texts, size, lowercase, min_frequency) -> "Tokenizer":
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    if lowercase:
        tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = _bpe_trainer(tokenizers, size, min_frequency, alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _bpe_trainer(tokenizers, size, min_frequency, alphabet):
    return tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=alphabet,
        show_progress=False,
    )


_PRIVATE = 0xF0000  # where Unicode leaves room for characters of one's own


def _train_wordpiece(tokenizers, texts, size, lowercase, min_frequency) -> "Tokenizer":
    """The library's WordPiece training gives other subwords in every process (it numbers the "##"
    characters in the order of a randomised hash map), which no replay would survive. Its algorithm
    is BPE with word-initial and inner characters told apart; so that is trained here, inner
    characters standing as private ones meanwhile."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()

    def words_of(text: str) -> list[str]:
        normal = tokenizer.normalizer.normalize_str(text)
        return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)]

    sentences = [words_of(text) for text in texts]
    inner = sorted({c for sentence in sentences for word in sentence for c in word[1:]})
    hidden = {ord(c): chr(_PRIVATE + place) for place, c in enumerate(inner)}
    shown = {_PRIVATE + place: c for place, c in enumerate(inner)}
    lines = [" ".join(w[0] + w[1:].translate(hidden) for w in sentence) for sentence in sentences]

    pieces = tokenizers.Tokenizer(tokenizers.models.BPE())
    pieces.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    pieces.train_from_iterator(lines, _bpe_trainer(tokenizers, size, min_frequency, []))

    def shape(piece: str) -> str:
        return piece.translate(shown) if ord(piece[0]) < _PRIVATE else "##" + piece.translate(shown)

    vocabulary = {shape(piece): number for piece, number in pieces.get_vocab().items()}
    tokenizer.model = tokenizers.models.WordPiece(vocabulary, unk_token="[UNK]")
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def load_subwords(path: str | os.PathLike) -> "Tokenizer":
    """A tokenizer from the JSON file that ``tokenizer.save`` wrote."""
    if not os.path.exists(path):
        raise UserError("tokenizer-file", f"{path} is missing: put the model's own tokenizer there")
    try:
        check_json(Path(path))
        found = _tokenizers().Tokenizer.from_file(str(path))
        found.no_padding()  # rows are padded here, and a file may ask for any length
        return found
    except Exception as error:  # the library raises bare Exception
        if isinstance(error, UserError):
            raise
        raise UserError("tokenizer-file", f"{path} is not a saved tokenizer ({error})") from None


@dataclasses.dataclass(frozen=True)
class Subwords:
    """A trained tokenizer with the face of a :class:`Vocabulary`."""

    tokenizer: "Tokenizer"

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        return self.tokenizer.get_vocab()

    def encode(self, text: str | np.ndarray) -> np.ndarray:
        """Numbers int32 ``[subwords]`` of a string, or of an array of characters."""
        return self.located(text if isinstance(text, str) else "".join(np.asarray(text).tolist()))[
            0
        ]

    def located(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of ``text``, and the place in it where each subword begins, int32 ``[subwords]``."""
        (found,) = _encoded(self.tokenizer, [text])
        starts = np.array([start for start, _ in found.offsets], np.int32)
        return np.array(found.ids, np.int32), starts

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of ``numbers``, special ones left out."""
        return self.tokenizer.decode([int(number) for number in numbers])


class Specials(NamedTuple):
    """The numbers of a BERT tokenizer's special tokens; ``first`` is the lowest above all of them."""

    unknown: int
    start: int
    end: int
    mask: int
    first: int


def specials(tokenizer: "Tokenizer") -> Specials:
    """Where a tokenizer, made here or elsewhere, has its special tokens.

    Raises:
      UserError: one is absent, or padding is not number 0, or they stand at the vocabulary's end.
    """
    names = ("[UNK]", "[CLS]", "[SEP]", "[MASK]")
    found: list[int] = []
    for name in names:
        number = tokenizer.token_to_id(name)
        if number is None:
            raise UserError("tokenizer-bert", f"the tokenizer has no {name}: it is not a BERT's")
        found.append(number)
    if tokenizer.token_to_id("[PAD]") != PAD:
        raise UserError("tokenizer-bert", f"the tokenizer's [PAD] must have the number {PAD}")
    first = max(found) + 1
    if first > tokenizer.get_vocab_size() // 2:
        raise UserError(
            "tokenizer-bert", "the tokenizer's special tokens must stand before all others"
        )
    unknown_, start, end, mask = found
    return Specials(unknown_, start, end, mask, first)


def encode_all(tokenizer: "Tokenizer | Vocabulary", texts: Iterable[str]) -> list[list[int]]:
    """Numbers of every text, without special tokens."""
    if isinstance(tokenizer, Vocabulary):
        return [tokenizer.encode(text).tolist() for text in map(str, texts)]
    return [item.ids for item in _encoded(tokenizer, [str(text) for text in texts])]


def _encoded(tokenizer: "Tokenizer", texts: list[str]) -> list[Any]:
    """What the library makes of texts, without special tokens; it lets go of the lock meanwhile."""
    try:
        return tokenizer.encode_batch(texts, add_special_tokens=False)
    except BaseException as error:  # Rust's panic, which is no Exception
        if type(error).__name__ != "PanicException":
            raise
        said = f"the tokenizer's patterns cannot be applied to {texts[0][:40]!r} ({error})"
        raise UserError("tokenizer-file", f"{said}: take another tokenizer") from None


def pad(
    sequences: Sequence[Sequence[int]],
    length: int | None = None,
    *,
    start: int | None = None,
    end: int | None = None,
    truncate: bool = False,
    name: str = "tokens",
) -> Columns:
    """Sequences as one array: ``{name}`` int32 ``[n, length]``, 0 after ``{name}_length`` int32 ``[n]``.

    Args:
      length: None takes the longest. A longer sequence raises UserError unless ``truncate``.
      start, end: numbers put before and after each sequence; both survive truncation.
    """
    extra = (start is not None) + (end is not None)
    longest = max((len(sequence) for sequence in sequences), default=0) + extra
    length = longest if length is None else length
    if longest > length and not truncate:
        raise UserError(
            "text-too-long",
            f"the longest text has {longest} tokens, {length} are allowed: raise the length or truncate",
        )
    padded = np.zeros((len(sequences), length), np.int32)
    lengths = np.zeros(len(sequences), np.int32)
    for row, sequence in enumerate(sequences):
        whole = [*([start] if start is not None else []), *sequence[: length - extra]]
        whole += [end] if end is not None else []
        padded[row, : len(whole)], lengths[row] = whole, len(whole)
    return {name: padded, f"{name}_length": lengths}


def _tokenizers():
    return need("tokenizers", extra="text", why="cutting text into subwords")
