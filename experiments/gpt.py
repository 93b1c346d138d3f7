"""GPT: a decoder-only Transformer that writes character by character, or an imported one fine-tuned.

Data: tiny Shakespeare, the first 90 % to train on and the last 10 % for validation.
Reference, nats a character: nanoGPT 1.88 on CPU (4 layers of 128), 1.4697 on an A100 (6 layers of 384).
The full size is --layers 6 --heads 6 --width 384 --context 256 --batch-size 64 --steps 5000
--dropout 0.2 --learning-rate 1e-3 (and --bfloat16 on an accelerator). A trained run writes:
python experiments/gpt.py write RUN --prompt "ROMEO:"
"""

import dataclasses
import functools
import secrets
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

import dl
from dl import interop
from dl.core.transforms import initialized_from
from dl.data.batches import eval_batches
from dl.data.batches.tokens import crops, strided
from dl.data.sets.characters import load_characters
from dl.models.generation import check_sampling, generate, stream
from dl.models.language import LanguageModel
from dl.models.layers import LayerNorm, RMSNorm
from dl.models.transformer import Transformer
from dl.tasks.language_modeling import language_modeling


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
    weights: str | None = None
    """folder of a GPT-2 or Llama in Hugging Face's layout, in place of the five fields below; its tokens
    take the characters' place where a tokenizer.json lies there, and nats are a token then"""
    style: Literal["gpt2", "llama"] = "llama"
    """gpt2: learned positions, LayerNorm, GELU; llama: rotary positions, RMSNorm, SwiGLU"""
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    """key-value heads (grouped-query attention); by default as many as heads"""
    width: int = 128
    context: int = 128
    """characters the model sees"""
    dropout: float = 0.0
    batch_size: int = 16
    steps: int = 2000
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    b2: float = 0.99
    final_rate: float = 0.1
    temperature: float = 0.8
    """of the sample drawn at every evaluation"""
    top_p: float = 0.95
    """share of probability that sample draws from"""


def network(config: Config, vocabulary: int):
    """The model, and the parameters it starts from where they are imported."""
    if config.weights is not None:
        return interop.load(config.weights, vocabulary=vocabulary, dropout=config.dropout)
    body = functools.partial(
        Transformer, config.width, config.layers, config.heads, config.kv_heads, causal=True
    )
    if config.style == "gpt2":
        block = body(norm=LayerNorm, dropout=config.dropout)
        return LanguageModel(vocabulary, block, config.context), None
    hidden = -(-8 * config.width // 3 // 32) * 32  # as costly as four times the width ungated
    gate: dict[str, Any] = {"hidden": hidden, "activation": nn.silu, "gated": True, "bias": False}
    block = body(**gate, norm=RMSNorm, rope=10000.0, dropout=config.dropout)
    return LanguageModel(vocabulary, block), None


def build(config: Config) -> dl.Experiment:
    check_sampling(config.temperature, None, config.top_p)  # used after a tenth of the steps only
    vocabulary, train, held = load_characters("tinyshakespeare", config.data_dir, config.weights)
    model, given = network(config, len(vocabulary))
    task = language_modeling(model)
    if given is not None:
        task = initialized_from(task, given)

    def sample(variables):  # one token at a time, from a key-value cache
        prompts = jnp.tile(vocabulary.encode("\n"), (4, 1))
        options: dict[str, Any] = {"temperature": config.temperature, "top_p": config.top_p}
        key = jax.random.key(0)
        texts = generate(model, variables, prompts, config.context - 1, key=key, **options)
        return {"sample": "\n--\n".join(vocabulary.decode(text) for text in np.asarray(texts))}

    return config.experiment(
        task,
        crops(train, config.context, config.batch_size, config.seed),
        steps=config.steps,
        evals={"validation": eval_batches(strided(held, config.context), 64)},
        select="-validation/loss",
        views=sample,
    )


def write(run: Path, prompt: str = "\n", length: int | None = None) -> None:
    """Print what a trained run writes, as it writes it.

    Args:
      run: the run's folder.
      prompt: what the text begins with.
      length: characters to write; by default up to the length the model was trained on.
    """
    trained = dl.open_run(run)
    config = trained.experiment.config
    vocabulary = load_characters("tinyshakespeare", config.data_dir, config.weights)[0]
    model, start = network(config, len(vocabulary))[0], vocabulary.encode(prompt)[None]
    if not prompt:
        raise dl.UserError("--prompt is empty: give it a character or more")
    if length is None:
        length = max(1, config.context - start.shape[1])
    options: dict[str, Any] = {"temperature": config.temperature, "top_p": config.top_p}
    variables, key = trained.state.eval_variables, jax.random.key(secrets.randbits(32))
    print(prompt, end="")
    for piece in stream(model, variables, jnp.asarray(start), length, key=key, **options):
        print(vocabulary.decode(np.asarray(piece[0])), end="", flush=True)
    print()


if __name__ == "__main__":
    dl.main(Config, build, write=write)
