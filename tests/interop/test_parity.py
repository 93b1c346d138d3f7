"""The same logits as transformers itself, with weights it drew at random, both ways."""

import logging

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from golden import logits, models, pictures, texts  # noqa: E402

from dl.interop import load, save  # noqa: E402
from dl.models.language import TextClassifier  # noqa: E402

logging.getLogger("transformers").setLevel(logging.ERROR)
MODELS = models()


def ours(folder, name):
    model, variables = load(folder)
    if name.startswith(("resnet", "vit")):
        return jax.jit(model.apply)(variables, pictures(8 if name == "vit" else 32))
    text = texts(name.startswith("bert"))
    if isinstance(model, TextClassifier):
        return jax.jit(model.apply)(variables, text["tokens"], types=text["types"])
    options = {"types": text["types"], "mask": text["mask"]} if name == "bert" else {}
    return jax.jit(model.apply)(variables, text["tokens"], **options)[0]


@pytest.mark.parametrize("name", MODELS)
def test_logits_agree_and_the_folder_we_write_is_theirs(name, tmp_path):
    theirs = MODELS[name]
    generator = torch.Generator().manual_seed(0)
    for key, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.empty(tensor.shape).normal_(0, 0.3, generator=generator)
            tensor.copy_(drawn.abs() + 0.5 if "running_var" in key else drawn)
    theirs.save_pretrained(tmp_path / "theirs")
    wanted = logits(theirs)
    np.testing.assert_allclose(ours(tmp_path / "theirs", name), wanted, atol=1e-4)

    save(tmp_path / "ours", *load(tmp_path / "theirs"))
    kind = transformers.LlamaForCausalLM if name == "mistral" else type(theirs)
    back, told = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(told.values()), told
    np.testing.assert_allclose(logits(back), wanted, atol=1e-6)
