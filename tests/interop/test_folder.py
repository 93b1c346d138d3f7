"""Folders in Hugging Face's layout: the logits that transformers gives, and the way back."""

import json
import os
import shutil
import struct

import jax
import numpy as np
import pytest
from golden import FILE, real, say, weights, write_weights
from mistakes import raises
from safetensors.numpy import load_file, save_file

from dl.interop import load, save
from dl.models.language import LanguageModel, TextClassifier
from dl.models.layers import RMSNorm
from dl.models.transformer import Transformer
from dl.models.vit import ViT

GOLDEN = json.loads(FILE.read_text())


@pytest.fixture(params=GOLDEN)
def name(request):
    return request.param


def folder_of(name, place):
    folder = place / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(GOLDEN[name]["config"]))
    write_weights(folder, GOLDEN[name]["tensors"])
    return folder


def test_logits_are_those_of_transformers(name, tmp_path):
    model, variables = load(folder_of(name, tmp_path))
    said, wanted = np.asarray(say(model, variables, name)), np.array(GOLDEN[name]["logits"])
    np.testing.assert_allclose(real(name, said), real(name, wanted), atol=1e-4)


def test_what_is_saved_holds_the_same_tensors_and_fields(name, tmp_path):
    theirs = folder_of(name, tmp_path)
    model, variables = load(theirs)
    save(tmp_path / "ours", model, variables)
    before = load_file(theirs / "model.safetensors")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    before = {key: x for key, x in before.items() if ".decoder." not in f".{key}"}
    if name == "whisper":
        before = {f"model.{key}": x for key, x in before.items()}
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        if key == "roberta.embeddings.position_embeddings.weight":
            tensor[:2] = 0  # what no place reads
        inexact = {"rtol": 1e-6, "atol": 1e-7} if name == "gemma" else {"rtol": 0}
        np.testing.assert_allclose(after[key], tensor, err_msg=key, **inexact)
    given, kept = (json.loads((f / "config.json").read_text()) for f in (theirs, tmp_path / "ours"))
    if name == "mistral":  # where nothing slides it is Llama's layout, and saved as that
        return
    free = {"attention_probs_dropout_prob", "bos_token_id", "eos_token_id", "attn_pdrop"}
    free |= {"classifier_dropout", "attention_dropout"}
    for key in (kept.keys() & given.keys()) - free:
        assert kept[key] == given[key], key


def test_shards_and_half_precision_and_bare_models(tmp_path):
    folder = folder_of("gpt2", tmp_path)
    model, variables = load(folder)
    save(tmp_path / "shards", model, variables, shard_bytes=1500)
    files = list((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(files) > 2
    again = load(tmp_path / "shards")[1]
    jax.tree.map(np.testing.assert_array_equal, again, variables)

    tensors = load_file(folder / "model.safetensors")
    bare = {key.removeprefix("transformer."): x.astype(np.float16) for key, x in tensors.items()}
    bare["h.0.attn.bias"] = np.ones((1, 1, 6, 6), np.float16)  # a causal mask, of old checkpoints
    save_file(bare, folder / "model.safetensors")
    half = load(folder)[1]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), half, variables)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype("float32")}


def test_adapters_are_written_merged(tmp_path):
    model, variables = load(folder_of("gpt2", tmp_path))
    kernel = variables["params"]["body"]["layer_0"]["in"]["kernel"]
    thin = {"a": np.ones((8, 1), np.float32), "b": np.ones((1, 32), np.float32) / 2}
    trained = {"body": {"layer_0": {"in": {"kernel": thin}}}}
    adapted = {"base": variables["params"], "params": trained, "lora": {"scale": np.float32(2)}}
    save(tmp_path / "merged", model, adapted)
    again = load(tmp_path / "merged")[1]["params"]["body"]["layer_0"]["in"]["kernel"]
    np.testing.assert_allclose(again, kernel + 1, rtol=1e-6)


def test_bfloat16_is_read(tmp_path):
    from safetensors.flax import save_file as save_jax

    folder = folder_of("llama", tmp_path)
    tensors = load_file(folder / "model.safetensors")
    low = {key: jax.numpy.asarray(x, jax.numpy.bfloat16) for key, x in tensors.items()}
    save_jax(low, folder / "model.safetensors")
    table = load(folder)[1]["params"]["embedding"]["embedding"]
    np.testing.assert_allclose(table, tensors["model.embed_tokens.weight"], atol=5e-3)


@pytest.mark.parametrize("style", ["gpt2", "llama", "bert", "classifier"])
def test_models_made_here_come_back_whole(style, tmp_path):
    from dl.interop import exact_gelu

    if style == "gpt2":
        body = Transformer(8, 2, 2, causal=True, scan=True)
        model = LanguageModel(7, body, 5)
    elif style == "llama":
        options = {"hidden": 12, "activation": jax.nn.silu, "gated": True, "bias": False}
        body = Transformer(8, 1, 4, 2, causal=True, rope=50.0, norm=RMSNorm, **options)
        model = LanguageModel(7, body)
    else:
        body = Transformer(8, 1, 2, norm_first=False, activation=exact_gelu)
        parts = {"token_types": 2, "embedding_norm": True}
        model = LanguageModel(7, body, 5, transform=style == "bert", **parts)
        if style == "classifier":
            model = TextClassifier(model, 3, pool="first", pooler=True)
    tokens = np.array([[1, 2, 3, 4, 5], [6, 5, 4, 3, 2]])
    variables = jax.jit(model.init)(jax.random.key(0), tokens)
    save(tmp_path, model, variables)
    other, back = load(tmp_path)
    ours, theirs = (jax.jit(m.apply)(v, tokens) for m, v in ((model, variables), (other, back)))
    np.testing.assert_allclose(jax.tree.leaves(ours)[0], jax.tree.leaves(theirs)[0], atol=1e-5)


def test_a_classifier_from_a_language_model_has_a_fresh_head(tmp_path):
    folder = folder_of("bert", tmp_path)
    model, variables = load(folder, classes=5, dropout=0.3)
    assert isinstance(model, TextClassifier)
    assert (model.classes, model.dropout, model.encoder.body.dropout) == (5, 0.3, 0.3)
    assert set(variables["params"]) == {"encoder"}
    vit, given = load(folder_of("vit", tmp_path), classes=3)
    assert "head" in given["params"]  # as many classes: kept
    vit, given = load(tmp_path / "vit", classes=4)
    assert vit.classes == 4
    assert "head" not in given["params"]
    _, given = load(folder_of("resnet-basic", tmp_path), classes=4)
    assert set(given["params"]) == {"ResNetFeatures_0"}
    model, given = load(folder_of("bert-classifier", tmp_path), architecture="BertForMaskedLM")
    assert isinstance(model, LanguageModel)
    assert "output" not in given["params"]
    model, given = load(folder_of("roberta", tmp_path), architecture="SequenceClassification")
    assert (model.pad, model.encoder.positions, set(given["params"])) == (1, 6, {"encoder"})


def edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def drop(folder, *names):
    tensors = load_file(folder / "model.safetensors")
    save_file({k: x for k, x in tensors.items() if k not in names}, folder / "model.safetensors")


FLOAT8 = b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}'
MISTAKES = {
    ("weights-unsupported", "'t5'"): lambda f: edit(f, model_type="t5"),
    ("weights-unsupported", "GPT2ForTokenClassification"): lambda f: edit(
        f, architectures=["GPT2ForTokenClassification"]
    ),
    ("tensors-missing", "GPT2LMHeadModel", "transformer.h.1.ln_2.bias"): lambda f: drop(
        f, "transformer.h.1.ln_2.bias"
    ),
    ("weights-config", "'n_embd'"): lambda f: (f / "config.json").write_text(
        '{"model_type": "gpt2"}'
    ),
    ("tensor-shapes", "transformer.wpe.weight"): lambda f: edit(f, n_positions=9),
    ("weights-unsupported", "only False"): lambda f: edit(f, scale_attn_by_inverse_layer_idx=True),
    ("tensors-unplaced", "transformer.h.1."): lambda f: edit(f, n_layer=1),
    ("weights-unsupported", "'mish'"): lambda f: edit(f, activation_function="mish"),
    ("file-damaged", "model.safetensors"): lambda f: (f / "model.safetensors").write_bytes(
        b"1234567890"
    ),
    ("weights-unsupported", "'x' in a type that is not read"): lambda f: (
        f / "model.safetensors"
    ).write_bytes(struct.pack("<Q", len(FLOAT8)) + FLOAT8 + b"1234"),
    ("weights-missing", "config.json"): shutil.rmtree,
    ("weights-missing", "holds no model.safetensors"): lambda f: (
        (f / "model.safetensors").unlink(),
        os.mkfifo(f / "model.safetensors.index.json"),
    ),
    ("weights-outside", "yyy", "only files beside it"): lambda f: (
        (f / "model.safetensors").unlink(),
        (f / "model.safetensors.index.json").write_text(
            json.dumps({"weight_map": {"x": "y" * 300 + ".safetensors"}})  # too long for a file
        ),
    ),
    ("weights-missing", "pickles, which are never opened"): lambda f: (
        f / "model.safetensors"
    ).rename(f / "pytorch.bin"),
    ("weights-config", "config.json", "JSON"): lambda f: (f / "config.json").write_text("{"),
    ("weights-config", "no model that can be built"): lambda f: edit(f, n_embd="8"),
    ("weights-config", "config.json of", "TypeError"): lambda f: edit(f, model_type=["gpt2"]),
    ("weights-config", "1,000,000,000 layers"): lambda f: edit(f, n_layer=10**9),
}


@pytest.mark.parametrize("message", MISTAKES)
def test_a_folder_that_does_not_fit_is_a_clear_error(message, tmp_path):
    folder = folder_of("gpt2", tmp_path)
    MISTAKES[message](folder)
    with raises(*message):
        load(folder)


def test_a_language_model_has_no_classes_and_a_bare_one_no_head(tmp_path):
    with raises("weights-no-classifier", "classes="):
        load(folder_of("gpt2", tmp_path), classes=2)
    with raises("weights-no-classifier", "classes="):
        load(folder_of("whisper", tmp_path), classes=2)
    folder = folder_of("vit", tmp_path)
    edit(folder, architectures=["ViTModel"])
    with raises("no-head", "classes="):
        load(folder)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ViT(3, Transformer(8, 1, 2)), ("hf-layout", "a class token (pool='first')")),
        (
            LanguageModel(7, Transformer(8, 1, 2), 5),
            ("hf-layout", "a bidirectional post-norm body"),
        ),
        (
            LanguageModel(7, Transformer(8, 1, 2, causal=True, rope=9.0)),
            ("hf-layout", "causal, pre-norm and gated"),
        ),
        (Transformer(8, 1, 2), ("hf-layout", "Transformer")),
    ],
)
def test_a_model_without_a_place_is_a_clear_error(model, message, tmp_path):
    with raises(*message):
        save(tmp_path, model, {"params": {}})


def test_weights_are_what_the_names_say():
    assert weights("a", (2, 3)).dtype == np.float32
    assert not np.array_equal(weights("a", (4,)), weights("b", (4,)))
