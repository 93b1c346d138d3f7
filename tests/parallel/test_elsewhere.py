"""Programs compiled for machines that are not here, by their own compilers, where those are installed."""

import functools
import importlib.util
import json
import os
import subprocess
import sys

import pytest

CODE = """
import json, sys
import dl
from dl.parallel.devices import machine
elsewhere = machine(sys.argv[1])
import numpy as np
from dl.models.language import LanguageModel
from dl.models.resnet import BasicBlock, ResNet
from dl.models.transformer import Transformer
from dl.models.unet import UNet
from dl.parallel.programs import shape_bytes
from dl.runs.options import Options
from dl.tasks.classification import classification
from dl.tasks.language_modeling import language_modeling
from dl.tasks.segmentation import segmentation
from dl.training.plan_elsewhere import planned

rng = np.random.default_rng(0)
def gpt(batch, time=512, vocabulary=16384):
    body = Transformer(256, 2, 4, causal=True, scan=True)
    rows = rng.integers(0, vocabulary, (batch, time + 1), np.int32)
    data = dl.train_batches({"inputs": rows[:, :-1], "targets": rows[:, 1:]}, batch)
    return language_modeling(LanguageModel(vocabulary, body, positions=time)), data
def pictures(batch):
    label = rng.integers(0, 10, batch).astype(np.int32)
    return dl.train_batches({"image": np.zeros((batch, 64, 64, 3), np.uint8), "label": label}, batch)
def resnet(batch):
    return classification(ResNet(10, (1, 1, 1, 1), BasicBlock, 32)), pictures(batch)
def unet(batch):
    mask = rng.integers(0, 2, (batch, 64, 64)).astype(np.int32)
    image = np.zeros((batch, 64, 64, 1), np.uint8)
    return segmentation(UNet(2, (16, 32)), 2), dl.train_batches({"image": image, "segments": mask}, batch)

found = {}
for name, make, batch in (("gpt", gpt, 32), ("resnet", resnet, 64), ("unet", unet, 64)):
    for devices, mesh in ((1, None), (8, "fsdp=8")):
        task, data = make(batch * devices // 8)
        one = dl.Experiment(dl.mixed_precision(task), data, dl.optimizer("adamw", 1e-3), 10)
        got = planned(one, elsewhere, Options(mesh=mesh))
        found[f"{name} {devices}"] = {
            "temporaries": got.bytes_of["activations and temporaries"], "fits": got.fits,
            "largest": shape_bytes(got.largest), "array": got.largest,
            "parameters": got.parameters, "kernels": dict(got.kernels),
            "sent": {kind: size for kind, (_, size) in got.sent.items()}, "seconds": got.seconds,
        }
print(json.dumps(found))
"""


@functools.cache
def compiled(device):
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, device],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


DEVICES = [
    pytest.param(
        device,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(package) is None, reason=f"needs {package}"
        ),
    )
    for device, package in (("h100:8", "jax_cuda12_plugin"), ("v5e:2x4", "libtpu"))
]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_a_device_of_eight_holds_an_eighth_of_the_activations(device):
    """No array of a device of eight is larger than where it has an eighth of the batch alone."""
    found = compiled(device)
    for name in ("gpt", "resnet", "unet"):
        alone, share = (found[f"{name} {devices}"] for devices in (1, 8))
        assert share["largest"] <= 1.01 * alone["largest"], (name, alone, share)
    # Where no arrays are padded to the chip's tiles, temporaries say the same.
    alone, share = (found[f"gpt {devices}"] for devices in (1, 8))
    assert share["temporaries"] < 1.3 * alone["temporaries"] + 8 * alone["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_gathered_bytes_are_those_of_the_rules(device):
    one = compiled(device)["gpt 8"]
    gathered = one["sent"].get("all-gather", 0) + one["sent"].get("collective-permute", 0)
    # Parameters in bfloat16, once or twice.
    assert 0.9 * 2 * one["parameters"] < gathered < 1.1 * 4 * one["parameters"]


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
def test_kernels_are_the_machines_own(device):
    found = compiled(device)["gpt 1"]
    assert not any("scatter" in kind or "sort" in kind for kind in found["kernels"])
    assert any("fmha" in kind or "tpu_custom_call" in kind for kind in found["kernels"])
    assert all(seconds >= 0 for seconds in found["seconds"].values())
