"""BERT (Devlin et al. 2019), RoBERTa (Liu et al. 2019) and DistilBERT (Sanh et al. 2019): a bidirectional
:class:`~dl.models.language.LanguageModel`, or a :class:`~dl.models.language.TextClassifier` on it."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn

from dl.core.errors import UserError
from dl.interop.families import (
    Config,
    Family,
    activation,
    activation_name,
    epsilon_of,
    exact_gelu,
    expect,
    field,
    label_fields,
    layer_norm,
    numbered,
    plain,
    rate_of,
    require,
    token_example,
)
from dl.interop.tables import SAME, Entry, Later, Row, below, blocks, dense, expand, norm
from dl.models.language import LanguageModel, TextClassifier
from dl.models.layers import Activation, LayerNorm
from dl.models.transformer import Transformer


class _Kind(NamedTuple):
    """One of the three.

    Attributes:
      name: the ``model_type``; classes: what its classes of ``transformers`` begin with.
      layers: the modules of a layer, as :func:`dl.interop.tables.blocks` takes them.
      masked, classifier: rows of the last layers.
      fields: names in ``config.json``.
      always: what ``config.json`` must say, where it says it.
      pad: the token that fills a row; first: the row of the table of positions that the first place reads,
        counted from ``pad``.
      pooler: the activation before the classifier.
    """

    name: str
    classes: str
    layers: tuple[str, str, str, str, str, str, str]
    masked: tuple[Row, ...]
    classifier: tuple[Row, ...]
    fields: dict[str, str]
    always: dict[str, Any]
    pad: int = 0
    first: int | None = None
    pooler: bool | Activation = True


_FIELDS = {
    "width": "hidden_size",
    "layers": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "rate": "hidden_dropout_prob",
    "attention_rate": "attention_probs_dropout_prob",
    "head_rate": "classifier_dropout",
}
_LAYERS = (
    "encoder.layer",
    "attention.self.{query,key,value}",
    "attention.output.dense",
    "attention.output.LayerNorm",
    "intermediate.dense",
    "output.dense",
    "output.LayerNorm",
)
_ALWAYS = {
    "is_decoder": False,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
}
BERT = _Kind(
    "bert",
    "Bert",
    _LAYERS,
    (
        *dense("output/dense", "cls.predictions.transform.dense"),
        *norm("output/norm", "cls.predictions.transform.LayerNorm"),
        ("output/bias", "cls.predictions.bias", SAME),
    ),
    (*dense("pooler", "bert.pooler.dense"), *dense("head", "classifier")),
    _FIELDS,
    _ALWAYS,
)
ROBERTA = _Kind(
    "roberta",
    "Roberta",
    _LAYERS,
    (
        *dense("output/dense", "lm_head.dense"),
        *norm("output/norm", "lm_head.layer_norm"),
        ("output/bias", "lm_head.bias", SAME),
    ),
    (*dense("pooler", "classifier.dense"), *dense("head", "classifier.out_proj")),
    _FIELDS,
    _ALWAYS,
    pad=1,
    first=1,
)
DISTILBERT = _Kind(
    "distilbert",
    "DistilBert",
    (
        "transformer.layer",
        "attention.{q_lin,k_lin,v_lin}",
        "attention.out_lin",
        "sa_layer_norm",
        "ffn.lin1",
        "ffn.lin2",
        "output_layer_norm",
    ),
    (
        *dense("output/dense", "vocab_transform"),
        *norm("output/norm", "vocab_layer_norm"),
        ("output/bias", "vocab_projector.bias", SAME),
    ),
    (*dense("pooler", "pre_classifier"), *dense("head", "classifier")),
    {
        "width": "dim",
        "layers": "n_layers",
        "heads": "n_heads",
        "hidden": "hidden_dim",
        "activation": "activation",
        "rate": "dropout",
        "attention_rate": "attention_dropout",
        "head_rate": "seq_classif_dropout",
    },
    {"tie_word_embeddings": True},
    pooler=nn.relu,
)
EPSILON = 1e-12  # of all norms where config.json has no field for it


def entries(kind: _Kind, model: LanguageModel | TextClassifier) -> list[Entry]:
    classifier = isinstance(model, TextClassifier)
    encoder, pad = (model.encoder, model.pad) if classifier else (model, kind.pad)
    positions = SAME if kind.first is None else Later(pad + kind.first)
    top = f"{kind.name}.embeddings"
    rows: list[Row] = [
        ("embedding/embedding", f"{top}.word_embeddings.weight", SAME),
        ("positions", f"{top}.position_embeddings.weight", positions),
        *norm("norm", f"{top}.LayerNorm"),
        *blocks(f"{kind.name}.{kind.layers[0]}", *kind.layers[1:]),
    ]
    if encoder.token_types:
        rows.append(("token_types", f"{top}.token_type_embeddings.weight", SAME))
    last = below("params", kind.classifier if classifier else kind.masked)
    under = below("params/encoder" if classifier else "params", rows)
    return expand([*under, *last], numbered(encoder.body.layers))


def build(
    kind: _Kind, config: Config, architecture: str, classes: int, dropout: Any
) -> LanguageModel | TextClassifier:
    expect(config, **kind.always)
    names, classifier = kind.fields, architecture.endswith("ForSequenceClassification")
    rate = config.get(names["rate"], 0.1)
    body = Transformer(
        field(config, names["width"]),
        field(config, names["layers"]),
        field(config, names["heads"]),
        hidden=field(config, names["hidden"]),
        activation=activation(config.get(names["activation"], "gelu")),
        norm=layer_norm(EPSILON if kind is DISTILBERT else config.get("layer_norm_eps", EPSILON)),
        norm_first=False,
        dropout=rate if dropout is None else dropout,
    )
    if "For" not in architecture:
        raise UserError(
            "no-head",
            f"{architecture} has no output layer: give classes= for a classifier, or "
            f"architecture='{kind.classes}ForMaskedLM' for a language model",
        )
    pad = config.get("pad_token_id", kind.pad)
    unread = 0 if kind.first is None else pad + kind.first
    encoder = LanguageModel(
        field(config, "vocab_size"),
        body,
        field(config, "max_position_embeddings") - unread,
        token_types=0 if kind is DISTILBERT else config.get("type_vocab_size", 2),
        embedding_norm=True,
        transform=not classifier,
    )
    if not classifier:
        if kind is ROBERTA:  # whose output layer knows no other
            expect(config, hidden_act="gelu", pad_token_id=kind.pad)
        return encoder
    before = config.get(names["head_rate"])
    if before is None:
        before = 0.2 if kind is DISTILBERT else rate
    before = before if dropout is None else dropout
    return TextClassifier(encoder, classes, "first", before, pad, kind.pooler)


def config_of(kind: _Kind, model: LanguageModel | TextClassifier, variables: Any) -> dict[str, Any]:
    classifier = isinstance(model, TextClassifier)
    encoder, pad = (model.encoder, model.pad) if classifier else (model, kind.pad)
    body, names = encoder.body, kind.fields
    require(not body.causal and not body.norm_first, "a bidirectional post-norm body")
    plain(body)
    require(bool(encoder.positions) and not encoder.scaled, "learned positions, nothing scaled")
    require(encoder.embedding_norm, "embedding_norm")
    require(encoder.tied and encoder.transform != classifier, "a tied output, with transform")
    suffix, top = "ForMaskedLM", {}
    if classifier:
        said = "True" if kind.pooler is True else "nn.relu"
        require(model.pool == "first", "pool='first'")
        require(
            model.pooler is kind.pooler, f"pooler={said} with {encoder.token_types} token types"
        )
        suffix = "ForSequenceClassification"
        top = label_fields(model.classes) | {names["head_rate"]: rate_of(model.dropout)}
    elif kind is ROBERTA:
        require(body.activation is exact_gelu, "activation=dl.interop.exact_gelu")
    epsilon = epsilon_of(body, LayerNorm)
    if kind is DISTILBERT:
        require(epsilon == EPSILON, f"norms of epsilon {EPSILON}, or token types")
    else:
        top |= {"layer_norm_eps": epsilon, "type_vocab_size": encoder.token_types}
    return {
        "architectures": [kind.classes + suffix],
        "model_type": kind.name,
        "vocab_size": encoder.vocabulary,
        names["width"]: body.width,
        names["layers"]: body.layers,
        names["heads"]: body.heads,
        names["hidden"]: body.hidden or 4 * body.width,
        names["activation"]: activation_name(body.activation),
        names["rate"]: rate_of(body.dropout),
        names["attention_rate"]: 0.0,
        "max_position_embeddings": encoder.positions + (pad + kind.first if kind.first else 0),
        "pad_token_id": pad,
        "tie_word_embeddings": True,
        **top,
    }


def _family(kind: _Kind, *others: str, beginnings: tuple[str, ...] = ()) -> Family:
    endings = ("ForMaskedLM", "ForSequenceClassification", "Model", *others)
    # Numbers of places; the other model's last layers; the next-sentence classifier; tied copies.
    ignored = (
        rf"\.position_ids$|^{kind.name}\.pooler\.|^(pre_)?classifier\.|^cls\.seq_relationship\."
        r"|^cls\.predictions\.|^lm_head\.|^vocab_"
    )
    return Family(
        architectures=tuple(b + end for b in (kind.classes, *beginnings) for end in endings),
        prefix=f"{kind.name}.",
        ignored=ignored,
        heads=("params/output", "params/pooler", "params/head"),
        build=functools.partial(build, kind),
        entries=functools.partial(entries, kind),
        config_of=functools.partial(config_of, kind),
        example=token_example,
    )


FAMILY = _family(BERT, "ForPreTraining")
ROBERTA_FAMILY = _family(ROBERTA, beginnings=("XLMRoberta", "Camembert"))
DISTILBERT_FAMILY = _family(DISTILBERT)


def family_of(encoder: LanguageModel) -> Family:
    """Of the three, the one that a model is written as: by its number of token types."""
    return {0: DISTILBERT_FAMILY, 1: ROBERTA_FAMILY}.get(encoder.token_types, FAMILY)
