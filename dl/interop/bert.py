"""BERT (Devlin et al. 2019): a bidirectional :class:`~dl.models.language.LanguageModel`, or a
:class:`~dl.models.language.TextClassifier` on it."""

from typing import Any

from dl.core.errors import UserError
from dl.interop.families import (
    Config,
    Family,
    activation,
    activation_name,
    epsilon_of,
    expect,
    field,
    label_fields,
    layer_norm,
    numbered,
    rate_of,
    require,
    token_example,
)
from dl.interop.tables import LINEAR, SAME, Entry, Row, expand
from dl.models.language import LanguageModel, TextClassifier
from dl.models.layers import LayerNorm
from dl.models.transformer import Transformer

ENCODER: tuple[Row, ...] = (
    ("embedding/embedding", "bert.embeddings.word_embeddings.weight", SAME),
    ("positions", "bert.embeddings.position_embeddings.weight", SAME),
    ("token_types", "bert.embeddings.token_type_embeddings.weight", SAME),
    ("norm/scale", "bert.embeddings.LayerNorm.weight", SAME),
    ("norm/bias", "bert.embeddings.LayerNorm.bias", SAME),
    (
        "body/layer_*/attention/qkv/kernel",
        "bert.encoder.layer.*.attention.self.{query,key,value}.weight",
        LINEAR,
    ),
    (
        "body/layer_*/attention/qkv/bias",
        "bert.encoder.layer.*.attention.self.{query,key,value}.bias",
        SAME,
    ),
    (
        "body/layer_*/attention/out/kernel",
        "bert.encoder.layer.*.attention.output.dense.weight",
        LINEAR,
    ),
    ("body/layer_*/attention/out/bias", "bert.encoder.layer.*.attention.output.dense.bias", SAME),
    (
        "body/layer_*/attention_norm/scale",
        "bert.encoder.layer.*.attention.output.LayerNorm.weight",
        SAME,
    ),
    (
        "body/layer_*/attention_norm/bias",
        "bert.encoder.layer.*.attention.output.LayerNorm.bias",
        SAME,
    ),
    ("body/layer_*/in/kernel", "bert.encoder.layer.*.intermediate.dense.weight", LINEAR),
    ("body/layer_*/in/bias", "bert.encoder.layer.*.intermediate.dense.bias", SAME),
    ("body/layer_*/out/kernel", "bert.encoder.layer.*.output.dense.weight", LINEAR),
    ("body/layer_*/out/bias", "bert.encoder.layer.*.output.dense.bias", SAME),
    ("body/layer_*/feed_forward_norm/scale", "bert.encoder.layer.*.output.LayerNorm.weight", SAME),
    ("body/layer_*/feed_forward_norm/bias", "bert.encoder.layer.*.output.LayerNorm.bias", SAME),
)
MASKED: tuple[Row, ...] = (
    ("params/output/dense/kernel", "cls.predictions.transform.dense.weight", LINEAR),
    ("params/output/dense/bias", "cls.predictions.transform.dense.bias", SAME),
    ("params/output/norm/scale", "cls.predictions.transform.LayerNorm.weight", SAME),
    ("params/output/norm/bias", "cls.predictions.transform.LayerNorm.bias", SAME),
    ("params/output/bias", "cls.predictions.bias", SAME),
)
CLASSIFIER: tuple[Row, ...] = (
    ("params/pooler/kernel", "bert.pooler.dense.weight", LINEAR),
    ("params/pooler/bias", "bert.pooler.dense.bias", SAME),
    ("params/head/kernel", "classifier.weight", LINEAR),
    ("params/head/bias", "classifier.bias", SAME),
)


def entries(model: LanguageModel | TextClassifier) -> list[Entry]:
    classifier = isinstance(model, TextClassifier)
    encoder, top = (model.encoder, "params/encoder/") if classifier else (model, "params/")
    rows = [(top + ours, theirs, layout) for ours, theirs, layout in ENCODER]
    return expand([*rows, *(CLASSIFIER if classifier else MASKED)], numbered(encoder.body.layers))


def build(
    config: Config, architecture: str, classes: int, dropout: Any
) -> LanguageModel | TextClassifier:
    expect(
        config,
        is_decoder=False,
        position_embedding_type="absolute",
        tie_word_embeddings=True,
        pad_token_id=0,
    )
    rate = config.get("hidden_dropout_prob", 0.1)
    body = Transformer(
        field(config, "hidden_size"),
        field(config, "num_hidden_layers"),
        field(config, "num_attention_heads"),
        hidden=field(config, "intermediate_size"),
        activation=activation(config.get("hidden_act", "gelu")),
        norm=layer_norm(config.get("layer_norm_eps", 1e-12)),
        norm_first=False,
        dropout=rate if dropout is None else dropout,
    )
    classifier = architecture == "BertForSequenceClassification"
    if architecture == "BertModel":
        raise UserError(
            "no-head",
            "BertModel has no output layer: give classes= for a classifier, or "
            "architecture='BertForMaskedLM' for a language model",
        )
    encoder = LanguageModel(
        field(config, "vocab_size"),
        body,
        field(config, "max_position_embeddings"),
        token_types=config.get("type_vocab_size", 2),
        embedding_norm=True,
        transform=not classifier,
    )
    if not classifier:
        return encoder
    before = config.get("classifier_dropout")
    if before is None:
        before = rate
    return TextClassifier(
        encoder, classes, pool="first", dropout=before if dropout is None else dropout, pooler=True
    )


def config_of(model: LanguageModel | TextClassifier, variables: Any) -> dict[str, Any]:
    classifier = isinstance(model, TextClassifier)
    encoder = model.encoder if classifier else model
    body = encoder.body
    require(not body.causal and not body.norm_first, "a bidirectional post-norm body")
    require(
        body.bias and not body.rope and not body.gated, "biases, and no rotary positions or gate"
    )
    require(body.kv_heads in (None, body.heads), "as many key-value heads as heads")
    require(bool(encoder.positions), "learned positions")
    require(encoder.token_types > 0 and encoder.embedding_norm, "token_types and embedding_norm")
    require(encoder.tied and encoder.transform != classifier, "a tied output, with transform")
    kind = "BertForMaskedLM"
    top: dict[str, Any] = {}
    if classifier:
        require(model.pool == "first" and model.pooler, "pool='first' and pooler=True")
        require(model.pad == 0, "pad=0")
        kind = "BertForSequenceClassification"
        top = label_fields(model.classes) | {"classifier_dropout": rate_of(model.dropout)}
    return {
        "architectures": [kind],
        "model_type": "bert",
        "vocab_size": encoder.vocabulary,
        "hidden_size": body.width,
        "num_hidden_layers": body.layers,
        "num_attention_heads": body.heads,
        "intermediate_size": body.hidden or 4 * body.width,
        "hidden_act": activation_name(body.activation),
        "layer_norm_eps": epsilon_of(body, LayerNorm),
        "max_position_embeddings": encoder.positions,
        "type_vocab_size": encoder.token_types,
        "hidden_dropout_prob": rate_of(body.dropout),
        "attention_probs_dropout_prob": 0.0,
        "pad_token_id": 0,
        "tie_word_embeddings": True,
        **top,
    }


FAMILY = Family(
    architectures=(
        "BertForMaskedLM",
        "BertForSequenceClassification",
        "BertModel",
        "BertForPreTraining",
    ),
    prefix="bert.",
    # Numbers of places; the other model's last layers; the next-sentence classifier; tied copies.
    ignored=(
        r"\.position_ids$|^bert\.pooler\.|^classifier\.|^cls\.seq_relationship\."
        r"|^cls\.predictions\."
    ),
    heads=("params/output", "params/pooler", "params/head"),
    build=build,
    entries=entries,
    config_of=config_of,
    example=token_example,
)
