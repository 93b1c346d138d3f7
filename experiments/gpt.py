"""GPT: a decoder-only Transformer (or --mixer mamba) that writes character by character, or an imported one.

Data: tiny Shakespeare, the last 10 % for validation; or your own text with --data PATH, in characters or --unit
word, wordpiece or bpe, which bits a byte compare. Reference, nats a character: nanoGPT 1.88 on CPU (4 of 128),
1.4697 on an A100 (--layers 6 --heads 6 --width 384 --context 256 --batch-size 64 --steps 5000 --dropout 0.2
--learning-rate 1e-3 --bfloat16). A trained run writes: python experiments/gpt.py write RUN --prompt "ROMEO:"
"""

import dataclasses
from functools import partial
from typing import Literal

import flax.linen as nn

import dl
from dl.baselines.ngrams import ngram_scores
from dl.data.batches.tokens import crops, held_windows
from dl.data.own.corpus import OwnCorpus
from dl.data.own.units import Documents, Units, encoded, within_documents
from dl.models.attention import Attention, Cache
from dl.models.experts import Experts
from dl.models.language import LanguageModel, Stack
from dl.models.layers import Dense, Dropout, LayerNorm, RMSNorm
from dl.models.mamba import Mamba
from dl.tasks.language_modeling import language_modeling
from dl.training.writing import Writing, write


@dataclasses.dataclass(frozen=True)
class Config(OwnCorpus, Units, Documents, dl.Recipe):
    data: str = "tinyshakespeare"
    """a named set, a file, folder or table of text, or tokens of `dl data tokens` (a:0.7,b:0.3)"""
    weights: str | None = None
    """folder of a GPT-2 or Llama in Hugging Face's layout, tokenizer.json too, in place of the next seven"""
    mixer: Literal["attention", "mamba"] = "attention"
    """how a token sees those before it: all of them, or by a state that each of them changed (Gu & Dao 2023)"""
    style: Literal["gpt2", "llama"] = "llama"
    """gpt2: learned positions, LayerNorm, GELU; llama: rotary positions, RMSNorm, SwiGLU"""
    layers: int = 4
    heads: int = 4
    kv_heads: int | None = None
    """key-value heads (grouped-query attention); by default as many as heads"""
    width: int = 128
    context: int = 128
    """tokens the model sees"""
    experts: int = 0
    """feed-forward networks of a layer, of which each token takes two; 0 for one that all take"""
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


NORMS = {"gpt2": LayerNorm, "llama": RMSNorm}


class Block(nn.Module):
    """Attention to what came before, then a feed-forward; each reads its input normed, and adds to it."""

    config: Config

    @nn.compact
    def __call__(self, x, mask, cache, layer, train):
        c, llama = self.config, self.config.style == "llama"
        norm, rope, gate = NORMS[c.style], 10000.0 if llama else None, nn.silu if llama else nn.gelu
        hidden = -(-8 * c.width // 3 // 32) * 32 if llama else 4 * c.width  # a gate costs a third
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        small = nn.initializers.variance_scaling(0.5 / c.layers, "fan_in", "normal")
        if c.mixer == "mamba":
            attend: nn.Module = Mamba(kernel_init=start, out_init=small, name="mixer")
        else:
            attend = Attention(c.heads, c.kv_heads, rope, not llama, start, small, name="attention")
        y = norm(name="attention_norm")(x)
        y, cache, _ = attend(y, mask=mask, causal=True, cache=cache, layer=layer)
        x = x + Dropout(c.dropout)(y, train=train)
        y = norm(name="feed_forward_norm")(x)
        if c.experts:
            y = Experts(c.experts, hidden, gate, llama, name="experts")(y, train=train)
        else:
            y = Dense((1 + llama) * hidden, not llama, kernel_init=start, name="in")(y)
            y = nn.silu(y[..., :hidden]) * y[..., hidden:] if llama else nn.gelu(y)
            y = Dense(c.width, not llama, kernel_init=small, name="out")(y)
        return x + Dropout(c.dropout)(y, train=train), cache


def empty_cache(c: Config, batch: int, length: int) -> Cache:
    if c.mixer == "mamba":
        return Mamba(parent=None).initial_cache(c.layers, batch, c.width)
    return Cache.empty(c.layers, batch, length, c.kv_heads or c.heads, c.width // c.heads)


def build(config: Config) -> dl.Experiment:
    if config.mixer == "mamba" and (config.weights or config.kv_heads):
        raise dl.UserError("option-misplaced", "--mixer mamba has no --weights or --kv-heads")
    vocabulary, text = encoded(config)
    size, positions = len(vocabulary), config.context if config.style == "gpt2" else 0
    block, empty, norm = partial(Block, config), partial(empty_cache, config), NORMS[config.style]
    body = Stack(block, config.layers, config.width, empty, norm, config.dropout)
    model, given = LanguageModel(size, body, positions), None
    if config.weights is not None:
        model, given = dl.interop.load(config.weights, vocabulary=size, dropout=config.dropout)
    return config.experiment(
        dl.initialized_from(language_modeling(model), given),
        crops(text.train["tokens"], config.context, config.batch_size, config.seed),
        **within_documents(held_windows(text, config.context), 64, vocabulary, config.documents),
        select="-validation/loss",
        baselines=lambda: {"n-grams": ngram_scores(text, size)},
        views=Writing(model, vocabulary, config.context - 1, config.temperature, config.top_p),
    )


if __name__ == "__main__":
    dl.main(Config, build, write=write)
