"""Translation from English to German: an encoder-decoder Transformer with beam search.

Data: Multi30k, task 1; byte-pair encoding trained on the training set, one vocabulary for both sides.
Reference: sacreBLEU 36 and more on test2016 for small Transformers trained on this set alone.
"""

import dataclasses
import functools

import jax
import numpy as np

import dl
from dl.core.errors import need
from dl.data import load
from dl.data.batches import eval_batches
from dl.data.batches.buckets import bucket_batches, trim
from dl.data.tokenizers import BOS, EOS, encode_all, pad, train_subwords
from dl.figures import pictures
from dl.models.language import EncoderDecoder
from dl.models.transformer import Transformer
from dl.scores.bleu import corpus_bleu
from dl.tasks.sequence_to_sequence import sequence_to_sequence
from dl.training.prediction import predict_all


@dataclasses.dataclass(frozen=True)
class Config(dl.Recipe):
    data_dir: str | None = None
    """folder with one sub-folder a data set"""
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


@functools.cache
def prepare(data_dir: str | None, size: int):
    """``(tokenizer, columns of each part, German sentences of each part)``, sentences by length."""
    splits = load("multi30k", data_dir)
    both = [*splits.train["en"], *splits.train["de"]]
    tokenizer = train_subwords(both, "bpe", size)
    columns, german = {}, {}
    for name in ("train", "validation", "test"):
        part = getattr(splits, name)
        source, target = (encode_all(tokenizer, part[language]) for language in ("en", "de"))
        order = np.argsort([len(tokens) for tokens in source], kind="stable")
        source, target = ([rows[i] for i in order] for rows in (source, target))
        longest = 2 + max(len(tokens) for tokens in (*source, *target))
        columns[name] = pad(source, longest, end=EOS, name="source")
        columns[name] |= pad(target, longest, start=BOS, end=EOS, name="target")
        german[name] = [str(sentence) for sentence in part["de"][order]]
    return tokenizer, columns, german


def longest(batch):
    """Tokens of the longest sentence of either side."""
    return jax.numpy.maximum(batch["source_length"].max(), batch["target_length"].max())


def build(config: Config) -> dl.Experiment:
    need("tokenizers", extra="text", why="cutting text into subwords")
    need("sacrebleu", extra="text", why="BLEU")
    tokenizer, columns, german = prepare(config.data_dir, config.vocabulary)
    encoder = Transformer(
        config.width,
        config.layers,
        config.heads,
        hidden=config.hidden,
        rope=10000.0,
        dropout=config.dropout,
    )
    decoder = encoder.clone(causal=True, cross=True)
    model = EncoderDecoder(tokenizer.get_vocab_size(), encoder, decoder)
    task = sequence_to_sequence(
        model,
        length=columns["train"]["target"].shape[1],
        label_smoothing=config.label_smoothing,
        beams=config.beams,
        length_penalty=config.length_penalty,
    )
    evals = {name: eval_batches(columns[name], 128) for name in ("validation", "test")}
    predict = jax.jit(task.predict)

    def translate(variables, name):
        tokens = predict_all(predict, variables, evals[name], "source")
        return tokenizer.decode_batch([row.tolist() for row in tokens])

    def views(variables):
        """Some translations, and where the decoder's last layer looks in the source of one."""
        batch = evals["validation"][0]
        said = predict(variables, batch["source"])
        rows = np.linspace(0, len(said) - 1, 8).astype(int)
        texts = [
            tokenizer.decode_batch(np.asarray(side)[rows].tolist())
            for side in (batch["source"], said, batch["target"])
        ]
        source = batch["source"][rows[-1]][: batch["source_length"][rows[-1]]]
        target = batch["target"][rows[-1]][: batch["target_length"][rows[-1]]]
        kept = model.apply(variables, source[None], target[None], mutable="intermediates")[1]
        looks = kept["intermediates"]["decoder"][f"layer_{config.layers - 1}"]["memory"]["weights"]
        tokens = [
            [tokenizer.id_to_token(int(token)) for token in side] for side in (target, source)
        ]
        return {
            "translations": "\n\n".join(map("\n".join, zip(*texts, strict=True))),
            "attention": pictures.attention_maps(np.asarray(looks[0][0]), *tokens),
        }

    lengths = np.maximum(columns["train"]["source_length"], columns["train"]["target_length"])
    return config.experiment(
        task,
        bucket_batches(columns["train"], lengths, config.batch_size, config.seed),
        trim=trim(["source", "target"], config.sizes, longest),
        steps=config.steps,
        evals={"validation": evals["validation"]},
        tests={"test": evals["test"]},
        select="validation/bleu",
        measure=lambda variables, name: {
            "bleu": corpus_bleu(translate(variables, name), german[name])
        },
        views=views,
    )


if __name__ == "__main__":
    dl.main(Config, build)
