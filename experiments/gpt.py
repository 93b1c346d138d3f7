"""GPT: a decoder-only Transformer that writes character by character, or an imported one fine-tuned.

Data: tiny Shakespeare, the last 10 % for validation; or your own text with --data PATH, in characters or --unit
word, wordpiece or bpe, which bits a byte compare. Reference, nats a character: nanoGPT 1.88 on CPU (4 of 128),
1.4697 on an A100 (--layers 6 --heads 6 --width 384 --context 256 --batch-size 64 --steps 5000 --dropout 0.2
--learning-rate 1e-3 --bfloat16). A trained run writes: python experiments/gpt.py write RUN --prompt "ROMEO:"
"""

import dataclasses
from typing import Literal

import flax.linen as nn

import dl
from dl.baselines.ngrams import ngram_scores
from dl.data.batches.tokens import crops, held_windows
from dl.data.own.corpus import OwnCorpus
from dl.data.own.units import Documents, Units, encoded, within_documents
from dl.models.attention import Attention, Cache
from dl.models.experts import Experts
from dl.models.language import LanguageModel
from dl.models.layers import Dense, Dropout, LayerNorm, RMSNorm
from dl.tasks.language_modeling import language_modeling
from dl.training.writing import Writing, write


@dataclasses.dataclass(frozen=True)
class Config(OwnCorpus, Units, Documents, dl.Recipe):
    data: str = "tinyshakespeare"
    """a named set, a file, folder or table of text, or tokens of `dl data tokens` (a:0.7,b:0.3)"""
    weights: str | None = None
    """folder of a GPT-2 or Llama in Hugging Face's layout, tokenizer.json too, in place of the next six fields"""
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


class Block(nn.Module):
    """Attention to what came before, then a feed-forward; each reads its input normed, and adds to it."""

    config: Config

    @nn.compact
    def __call__(self, x, mask, cache, layer, train):
        c, llama = self.config, self.config.style == "llama"
        norm, rope, gate = (RMSNorm, 10000.0, nn.silu) if llama else (LayerNorm, None, nn.gelu)
        hidden = -(-8 * c.width // 3 // 32) * 32 if llama else 4 * c.width  # a gate costs a third
        start = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        small = nn.initializers.variance_scaling(0.5 / c.layers, "fan_in", "normal")
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


class Blocks(nn.Module):
    """All of them: the body of a :class:`LanguageModel`, which embeds tokens and gives their logits."""

    config: Config
    width = property(lambda self: self.config.width)

    def initial_cache(self, batch: int, length: int) -> Cache:
        c = self.config
        return Cache.empty(c.layers, batch, length, c.kv_heads or c.heads, c.width // c.heads)

    @nn.compact
    def __call__(self, x, *, mask=None, cache=None, train: bool = False):
        dl.bounded("layers", self.config.layers, at_least=1)
        x, stored = Dropout(self.config.dropout)(x, train=train), cache and cache[:3]
        for layer in range(self.config.layers):
            x, stored = Block(self.config, name=f"layer_{layer}")(x, mask, stored, layer, train)
        norm = RMSNorm if self.config.style == "llama" else LayerNorm
        return norm(name="norm")(x), cache and cache.after(stored, x.shape[1])


def build(config: Config) -> dl.Experiment:
    vocabulary, text = encoded(config)
    size, positions = len(vocabulary), config.context if config.style == "gpt2" else 0
    model, given = LanguageModel(size, Blocks(config), positions), None
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
