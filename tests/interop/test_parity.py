"""The same outputs as transformers itself, with weights it drew at random, both ways."""

import json
import logging

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from golden import logits, models, real, say  # noqa: E402

from dl.interop import load, save  # noqa: E402

logging.getLogger("transformers").setLevel(logging.ERROR)
MODELS = models()


@pytest.mark.parametrize("name", MODELS)
def test_outputs_agree_and_the_folder_we_write_is_theirs(name, tmp_path):
    theirs = MODELS[name]
    generator = torch.Generator().manual_seed(0)
    for key, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():
            drawn = torch.empty(tensor.shape).normal_(0, 0.3, generator=generator)
            tensor.copy_(drawn.abs() + 0.5 if "running_var" in key else drawn)
    theirs.save_pretrained(tmp_path / "theirs")
    theirs = type(theirs).from_pretrained(tmp_path / "theirs")
    wanted = real(name, logits(theirs))
    said = real(name, np.asarray(say(*load(tmp_path / "theirs"), name)))
    largest = np.abs(wanted).max()
    np.testing.assert_allclose(said, wanted, rtol=0, atol=1e-6 * largest)

    save(tmp_path / "ours", *load(tmp_path / "theirs"))
    config = json.loads((tmp_path / "ours" / "config.json").read_text())
    kind = getattr(transformers, config["architectures"][0])
    back, told = kind.from_pretrained(tmp_path / "ours", output_loading_info=True)
    fresh = {key for key in told["missing_keys"] if "decoder." in key}
    assert bool(fresh) == (name == "whisper")
    assert not any(set(some) - fresh for some in told.values()), told
    np.testing.assert_allclose(real(name, logits(back)), wanted, rtol=0, atol=1e-6 * largest)
