"""The same experiment on one device and on eight simulated ones."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "eight_devices.py"
# Sums over devices come in another order, so float32 losses differ by a few units in the last place,
# which some twelve steps hardly grow. A batch cut wrongly or an example counted twice shows at 1e-2.
CLOSE = 1e-5

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path_factory.mktemp("runs")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]) | {"stderr": done.stderr}


def agree(one, other):
    np.testing.assert_allclose(one["loss"], other["loss"], rtol=CLOSE)
    assert one["metrics"].keys() == other["metrics"].keys()
    for name, value in one["metrics"].items():
        # Accuracies are counts: on uneven batches they are equal only if every example counts once.
        bound = 0 if "accuracy" in name else CLOSE
        np.testing.assert_allclose(value, other["metrics"][name], rtol=bound, err_msg=name)


@pytest.mark.parametrize(
    ("alone", "together"), [("mlp None", "mlp data=8"), ("gpt None", "gpt data=2,fsdp=2,tensor=2")]
)
def test_losses_and_metrics_are_those_of_one_device(found, alone, together):
    agree(found["on_meshes"][alone], found["on_meshes"][together])


def test_a_run_goes_on_on_any_mesh_with_its_data_in_order(found):
    agree(found["on_meshes"]["mlp None"], found["elastic"])
    assert "resumed on other devices (mesh: None then, data=2,fsdp=4 now)" in found["stderr"]
    meshes = {3: "data=2,fsdp=4", 8: "data=2"}
    said = [[step, [f"devices.mesh: None then, {mesh} now"]] for step, mesh in meshes.items()]
    assert found["elastic"]["resumed"] == said


def test_replay_takes_the_mesh_from_the_lock(found):
    assert found["replayed"]


def test_leaves_are_put_together_on_the_host_piece_by_piece(found):
    assert all(found["gathering"]["same"])
    assert found["gathering"]["sent"] == found["gathering"]["piece"]


def test_digests_are_the_same_wherever_the_parts_lie_and_no_part_is_sent(found):
    assert len(found["digested"]["found"]) == 6
    assert len(set(found["digested"]["found"])) == 1
    assert found["digested"]["sent"].keys() == {"all-reduce"}
    assert found["digested"]["sent"]["all-reduce"] <= 20  # bytes, of the sums


def test_fsdp_leaves_each_device_its_share_of_the_state(found):
    whole, share = (found["memory"][mesh]["arguments"] for mesh in ("data=8", "fsdp=8"))
    assert whole / 8 < share < whole / 7.5  # norms and biases, below the smallest size, stay whole


def test_devices_send_each_other_what_the_rules_say(found):
    """docs/scaling.md: gradients are summed once, parameters gathered once (XLA for CPU keeps them for the
    backward pass), and no activations but under tensor."""
    activations = 16 * 16 * 256 * 4  # of the whole batch, float32
    for mesh, gathered, summed in (
        ("data=8", 0, 1),
        ("fsdp=8", 1, 1),
        ("data=2,fsdp=4", 1, 1.25),  # the whole over fsdp, a quarter over data
    ):
        one = found["memory"][mesh]
        slack = 0.1 * one["params"]
        assert abs(one["all-gather"] - gathered * one["params"]) < slack, (mesh, one)
        assert abs(one["all-reduce"] - summed * one["params"]) < slack, (mesh, one)
        assert one["all-to-all"] + one["collective-permute"] < 0.05 * one["params"], (mesh, one)
    tensor = found["memory"]["tensor=4"]
    # Two sums forward and two backward for each of two layers, those at the ends, and what is not cut.
    assert tensor["all-reduce"] < 12 * activations + 0.1 * tensor["params"], tensor
    assert tensor["all-gather"] < activations, tensor


@pytest.mark.parametrize("name", ["mlp", "gpt"])
def test_a_deterministic_topology_has_the_same_bits_on_any_number_of_devices(found, name):
    runs = [run for mesh, run in found["same_bits"].items() if mesh.startswith(name)]
    assert len({run["digest"] for run in runs}) == 1
    assert all(run["loss"] == runs[0]["loss"] for run in runs)
    assert all(run["metrics"] == runs[0]["metrics"] for run in runs)
    # Batch norm and dropout see micro-shards: another computation than the plain one, but a like one.
    plain = found["on_meshes"][f"{name} None"]["loss"]
    np.testing.assert_allclose(runs[0]["loss"], plain, rtol=0.05)


def test_lanes_on_different_devices_have_the_bits_of_solo_runs(found):
    assert found["lanes"]["devices"] == 3
    assert found["lanes"]["digests"][0] == found["on_meshes"]["mlp None"]["digest"]
    assert len(set(found["lanes"]["digests"])) == 3
