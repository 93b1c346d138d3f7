"""What language models write: a sample at every evaluation, and a command that goes on from a prompt."""

import dataclasses
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dl.core.errors import UserError
from dl.core.task import Variables
from dl.models.generation import check_sampling, generate, stream
from dl.platform import harmless
from dl.training.prediction import Predictor
from dl.training.reopening import open_run


@dataclasses.dataclass(frozen=True)
class Writing:
    """An experiment's ``views``: texts that its model writes, drawn from the same key every time.

    Attributes:
      model: a language model, as :func:`dl.tasks.language_modeling.language_modeling` takes one.
      vocabulary: what encodes a text as tokens and decodes them, as :func:`dl.data.own.units.encode` gives it.
      length: tokens of each text.
      temperature, top_p: see :func:`dl.models.generation.sample_token`.
      prompt: what the texts begin with; texts: how many there are.
    """

    model: nn.Module
    vocabulary: Any
    length: int
    temperature: float | jax.Array = 1.0
    top_p: float | jax.Array | None = None
    prompt: str = "\n"
    texts: int = 4

    def __post_init__(self) -> None:
        check_sampling(self.temperature, None, self.top_p)

    def __call__(self, predictor: Predictor) -> dict[str, str]:
        prompts = jnp.tile(self._begin(self.prompt), (self.texts, 1))
        options: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        key = jax.random.key(0)
        given = self.model, predictor.variables, prompts, self.length
        tokens = generate(*given, key=key, **options)
        texts = [self.prompt.strip() + self.vocabulary.decode(row) for row in np.asarray(tokens)]
        return {"sample": "\n--\n".join(texts)}

    def stream(self, variables: Variables, prompt: str, length: int) -> Iterator[str]:
        """``prompt`` and ``length`` more tokens, drawn anew, in pieces as they are written."""
        if not prompt:
            raise UserError("prompt-empty", "--prompt is empty: give it a character or more")
        begin, key = self._begin(prompt)[None], jax.random.key(secrets.randbits(32))
        options: dict[str, Any] = {"temperature": self.temperature, "top_p": self.top_p}
        yield prompt
        tokens: list[int] = []
        told = ""  # what a subword says hangs on those before it
        for piece in stream(self.model, variables, jnp.asarray(begin), length, key=key, **options):
            tokens += np.asarray(piece[0]).tolist()
            text = self.vocabulary.decode(tokens)
            yield text[len(told) :]
            told = text
        yield "\n"

    def _begin(self, prompt: str) -> np.ndarray:
        """The tokens of ``prompt``; WordPiece has none for white space, so there the end of a text before."""
        tokens = self.vocabulary.encode(prompt)
        return tokens if len(tokens) else self.vocabulary.encode("[EOS]")


def write(run: Path, prompt: str = "\n", length: int | None = None) -> None:
    """Print what a trained run writes, as it writes it.

    Args:
      run: the run's folder.
      prompt: what the text begins with.
      length: tokens to write; by default up to the length of the samples.
    """
    trained = open_run(run)
    writing: Any = trained.experiment.views
    if not isinstance(writing, Writing):
        raise UserError(
            "not-a-writer",
            f"{run} is the run of no language model: give one of gpt or character_rnn",
        )
    if length is None:
        length = max(1, writing.length + 1 - len(writing.vocabulary.encode(prompt)))
    for piece in writing.stream(trained.state.eval_variables, prompt, length):
        print(harmless(piece, "\n\t"), end="", flush=True)
