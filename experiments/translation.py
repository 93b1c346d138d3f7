"""Translation from English to German: an encoder-decoder Transformer with beam search.

Data: Multi30k, task 1; byte-pair encoding trained on the training set, one vocabulary for both sides.
Reference: sacreBLEU 36 and more on test2016 for small Transformers trained on this set alone.
"""

import dataclasses
from typing import Any

import numpy as np

import dl
from dl.data import take
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import BOS, EOS, encode_all, pad, train_subwords
from dl.figures import pictures
from dl.models.language import EncoderDecoder
from dl.models.transformer import Transformer
from dl.scores.bleu import corpus_bleu
from dl.tasks.sequence_to_sequence import sequence_to_sequence


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    vocabulary: int = 6000
    """byte-pair tokens for both languages together"""
    width: int = 128
    layers: int = 3
    """of the encoder, and of the decoder"""
    heads: int = 4
    hidden: int = 256
    """width inside the feed-forward"""
    dropout: float = 0.15
    label_smoothing: float = 0.1
    batch_size: int = 128
    steps: int = 4600
    """227 are one pass over the training set"""
    sizes: tuple[int, ...] = (16, 24)
    """tokens that a batch of short sentences is cut to; each is a compiled branch of its own"""
    learning_rate: float = 3e-3
    warmup_percent: int = 10
    weight_decay: float = 1e-2
    b2: float = 0.98
    ema: float | None = 0.995
    beams: int = 5
    length_penalty: float = 0.8


@dl.prepared
def sentences(config: Config):
    """The tokenizer, and the sentences in its tokens, by length, beside the German ones as they are."""
    splits = dl.load("multi30k")
    both = [*splits.train["en"], *splits.train["de"]]
    tokenizer = train_subwords(both, "bpe", config.vocabulary)

    def encoded(part):
        source, target = (encode_all(tokenizer, part[language]) for language in ("en", "de"))
        order = np.argsort([len(tokens) for tokens in source], kind="stable")
        source, target = ([rows[i] for i in order] for rows in (source, target))
        longest = 2 + max(len(tokens) for tokens in (*source, *target))
        columns = pad(source, longest, end=EOS, name="source")
        columns |= pad(target, longest, start=BOS, end=EOS, name="target")
        return columns | {"german": part["de"][order]}

    return tokenizer, splits.map(encoded)


def build(config: Config) -> dl.Experiment:
    dl.need("sacrebleu", extra="text", why="BLEU")
    tokenizer, texts = sentences(config)
    splits = texts.only("source", "source_length", "target", "target_length")
    german = {name: part["german"].tolist() for name, part in texts.parts.items()}
    inner: Any = {"hidden": config.hidden, "rope": 10000.0, "dropout": config.dropout}
    encoder = Transformer(config.width, config.layers, config.heads, **inner)
    decoder = encoder.clone(causal=True, cross=True)
    model = EncoderDecoder(tokenizer.get_vocab_size(), encoder, decoder)
    search: Any = {"beams": config.beams, "length_penalty": config.length_penalty}
    length, smoothing = splits.train["target"].shape[1], config.label_smoothing
    task = sequence_to_sequence(model, length=length, label_smoothing=smoothing, **search)

    def measure(predictor, columns, name):
        said = tokenizer.decode_batch(predictor(columns).tolist())
        return {"bleu": corpus_bleu(said, german[name])}

    def views(predictor):
        """Some translations, and where the decoder's last layer looks in the source of one."""
        rows = np.linspace(0, min(128, len(german["validation"])) - 1, 8).astype(int)
        few = take(splits.validation, rows)
        sides = few["source"], predictor(few), few["target"]
        texts = [tokenizer.decode_batch(side.tolist()) for side in sides]
        source, target = (few[n][-1, : few[f"{n}_length"][-1]] for n in ("source", "target"))
        given = predictor.variables, source[None], target[None]
        kept = model.apply(*given, mutable="intermediates")[1]["intermediates"]
        looks = kept["decoder"][f"layer_{config.layers - 1}"]["memory"]["weights"]
        tokens = [list(map(tokenizer.id_to_token, side.tolist())) for side in (target, source)]
        return {
            "translations": "\n\n".join(map("\n".join, zip(*texts, strict=True))),
            "attention": pictures.attention_maps(np.asarray(looks[0][0]), *tokens),
        }

    lengths = np.maximum(splits.train["source_length"], splits.train["target_length"])
    return config.experiment(
        task,
        bucket_batches(splits.train, lengths, config.batch_size, config.seed),
        trim=trim(["source", "target"], config.sizes),
        **dl.held_out(splits, 128),
        select="validation/bleu",
        measure=measure,
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
