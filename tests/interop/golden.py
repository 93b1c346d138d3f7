"""Logits of tiny models by ``transformers``, kept in golden.json so that no test needs torch.

The weights are a formula of the tensor's name, so only names, shapes, configs and logits are kept. Write
the file again with ``pip install -e '.[parity]'`` and ``python tests/interop/golden.py``.
"""

import json
import tempfile
import zlib
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_suffix(".json")


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The tensor of that name, float32 (counters int64)."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    wave = 0.4 * np.sin(np.arange(np.prod(shape, dtype=int)) * 0.7 + zlib.crc32(name.encode()) % 97)
    centre = 1.0 if name.endswith(("running_var", "norm.weight", "Norm.weight")) else 0.0
    return (centre + wave).reshape(shape).astype(np.float32)


def pictures(side: int) -> np.ndarray:
    """``[2, side, side, 3]``."""
    return (
        np.sin(np.arange(2 * side * side * 3) * 0.37).reshape(2, side, side, 3).astype(np.float32)
    )


def sounds() -> np.ndarray:
    """``[2, 12, 5]``: frames of mels."""
    return np.cos(np.arange(2 * 12 * 5) * 0.37).reshape(2, 12, 5).astype(np.float32)


SIDES = {"resnet": 32, "convnext": 8, "vit": 8, "deit": 8}  # of the pictures that each takes
PADS = {"bert": 0, "distilbert": 0, "roberta": 1}


def texts(pad: int | None) -> dict[str, np.ndarray]:
    """Tokens ``[2, 6]``, their types, and the mask that hides the second row's end, where ``pad`` stands."""
    tokens = 1 + np.arange(12).reshape(2, 6) * 5 % 10
    if pad is not None:
        tokens[tokens == pad] = 9
        tokens[1, 4:] = pad
    return {"tokens": tokens, "types": np.arange(12).reshape(2, 6) % 2, "mask": tokens != pad}


def models():
    """The tiny models by name, in ``transformers``."""
    import transformers as hf

    small = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 12}
    bert = hf.BertConfig(**small, num_attention_heads=2, max_position_embeddings=6, num_labels=3)
    llama = {**small, "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-5}
    longer = {
        "rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
    }  # fmt: skip
    net = {"embedding_size": 4, "depths": [1, 2], "num_labels": 3}
    one_type = {**small, "num_attention_heads": 2, "type_vocab_size": 1, "num_labels": 3}
    roberta = hf.RobertaConfig(**one_type, max_position_embeddings=8)
    dim = {"dim": 8, "n_layers": 2, "n_heads": 2, "hidden_dim": 12, "max_position_embeddings": 6}
    distilbert = hf.DistilBertConfig(vocab_size=11, **dim, num_labels=3)
    deit = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 3}
    deit = hf.DeiTConfig(**deit, intermediate_size=12, image_size=8, patch_size=4)
    whisper = {"d_model": 8, "num_mel_bins": 5, "max_source_positions": 6, "vocab_size": 60000}
    sides = {
        f"{side}_{name}": size
        for side in ("encoder", "decoder")
        for name, size in {"layers": 2, "attention_heads": 2, "ffn_dim": 12}.items()
    }
    return {
        "resnet-basic": hf.ResNetForImageClassification(
            hf.ResNetConfig(**net, hidden_sizes=[4, 8], layer_type="basic")
        ),
        "resnet-bottleneck": hf.ResNetForImageClassification(
            hf.ResNetConfig(**net, hidden_sizes=[16, 32], layer_type="bottleneck")
        ),
        "resnet-widths": hf.ResNetForImageClassification(
            hf.ResNetConfig(
                embedding_size=6,
                depths=[1, 1, 2],
                num_labels=3,
                hidden_sizes=[8, 20, 20],
                layer_type="bottleneck",
            )
        ),
        "convnext": hf.ConvNextForImageClassification(
            hf.ConvNextConfig(
                num_stages=2, hidden_sizes=[4, 6], depths=[1, 2], patch_size=2, num_labels=3
            )
        ),
        "vit": hf.ViTForImageClassification(
            hf.ViTConfig(
                hidden_size=8,
                num_hidden_layers=2,
                num_attention_heads=2,
                intermediate_size=12,
                image_size=8,
                patch_size=4,
                num_labels=3,
            )
        ),
        "bert": hf.BertForMaskedLM(bert),
        "bert-classifier": hf.BertForSequenceClassification(bert),
        "gpt2": hf.GPT2LMHeadModel(
            hf.GPT2Config(vocab_size=11, n_embd=8, n_layer=2, n_head=2, n_positions=6)
        ),
        "llama": hf.LlamaForCausalLM(hf.LlamaConfig(**llama)),
        "llama3": hf.LlamaForCausalLM(
            hf.LlamaConfig(
                **llama,
                rope_parameters=longer,
                tie_word_embeddings=True,
                attention_bias=True,
                mlp_bias=True,
            )
        ),
        "mistral": hf.MistralForCausalLM(hf.MistralConfig(**llama, sliding_window=None)),
        "llama-heads": hf.LlamaForCausalLM(
            hf.LlamaConfig(**llama, head_dim=6, attention_bias=True, mlp_bias=False)
        ),
        "qwen2": hf.Qwen2ForCausalLM(hf.Qwen2Config(**llama)),
        "qwen3": hf.Qwen3ForCausalLM(hf.Qwen3Config(**llama, head_dim=4)),
        "gemma": hf.GemmaForCausalLM(hf.GemmaConfig(**llama, head_dim=4, pad_token_id=None)),
        "roberta": hf.RobertaForMaskedLM(roberta),
        "roberta-classifier": hf.RobertaForSequenceClassification(roberta),
        "distilbert": hf.DistilBertForMaskedLM(distilbert),
        "distilbert-classifier": hf.DistilBertForSequenceClassification(distilbert),
        "deit": hf.DeiTForImageClassification(deit),
        "deit-teacher": hf.DeiTForImageClassificationWithTeacher(deit),
        "whisper": hf.WhisperModel(
            hf.WhisperConfig(**whisper, **sides, max_target_positions=2, decoder_start_token_id=1)
        ),
    }


def logits(model) -> np.ndarray:
    """What a model of ``transformers`` says to the inputs above."""
    import torch

    kind = model.config.model_type
    model.eval()
    with torch.no_grad():
        if kind in SIDES:
            x = pictures(SIDES[kind])
            x = torch.tensor(x.transpose(0, 3, 1, 2)).to(model.dtype)
            return model(x).logits.numpy()
        if kind == "whisper":
            x = torch.tensor(sounds().transpose(0, 2, 1)).to(model.dtype)
            return model.encoder(x).last_hidden_state.numpy()
        padded = PADS.get(kind)
        text = {k: torch.tensor(v) for k, v in texts(padded).items()}
        if padded is None:
            return model(text["tokens"]).logits.numpy()
        options = {"token_type_ids": text["types"]} if kind == "bert" else {}
        return model(text["tokens"], attention_mask=text["mask"].long(), **options).logits.numpy()


def real(name: str, said: np.ndarray) -> np.ndarray:
    """What was said at places that are not padding."""
    mask = texts(PADS.get(name.split("-")[0]))["mask"]
    return said[mask] if np.shape(said)[:2] == mask.shape else said


def say(model, variables, name: str):
    """What one of our models says to the same inputs."""
    import jax

    apply, kind = jax.jit(model.apply), name.split("-")[0]
    if kind in SIDES:
        return apply(variables, pictures(SIDES[kind]))
    if kind == "whisper":
        return apply(variables, sounds(), np.array([12, 12]))[0]
    pad = PADS.get(kind)
    text = texts(pad)
    options = {"types": text["types"]} if kind == "bert" else {}
    if name.endswith("classifier"):
        return apply(variables, text["tokens"], **options)
    options |= {} if pad is None else {"mask": text["mask"]}
    return apply(variables, text["tokens"], **options)[0]


def write_weights(folder: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """``model.safetensors`` with the formula's weights."""
    from safetensors.numpy import save_file

    tensors = {name: weights(name, tuple(shape)) for name, shape in shapes.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def main() -> None:
    from safetensors.numpy import load_file

    stored = {}
    for name, model in models().items():
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            model.save_pretrained(folder)
            shapes = {k: x.shape for k, x in load_file(folder / "model.safetensors").items()}
            write_weights(folder, shapes)
            said = logits(type(model).from_pretrained(folder))
            config = json.loads((folder / "config.json").read_text())
        stored[name] = {
            "config": config, "tensors": shapes, "logits": np.round(said.astype(float), 6).tolist()
        }  # fmt: skip
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(x)}" for name, x in stored.items())
    FILE.write_text("{" + lines + "}\n")


if __name__ == "__main__":
    main()
