"""Every shipped experiment, at tiny size: it runs, resumes exactly after a kill, and sweeps to the bit."""

import dataclasses
import json
import math
import tempfile
from pathlib import Path

import faults
import jax
import numpy as np
import pytest
from mistakes import raises
from PIL import Image

import dl
import dl.data.own.door
from dl.core.experiment import built
from dl.core.lanes import first_batch, traceable_fields
from dl.core.state import by_path
from dl.data import load, take
from dl.report.layers import summary
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.options import Options
from dl.runs.scripts import load_script
from dl.sweeps.groups import Sweep
from dl.sweeps.sweep import run_sweep
from dl.training.checks import check
from dl.training.starting import Start, fitted

FOLDER = Path(__file__).parents[2] / "experiments"

_MADE = tempfile.TemporaryDirectory()  # which lasts as long as this process


def made_parts() -> str:
    """A folder of 24 pictures of 32 x 32, half of them with a spot, and their masks."""
    draw, root = np.random.default_rng(0), Path(_MADE.name) / "parts"
    for row in range(24):
        mask = np.zeros((32, 32), np.uint8)
        if row % 2:
            mask[row : row + 4, 8:12] = 255
        image = draw.integers(90, 130, mask.shape, np.uint8) + mask // 4
        for kind, pixels in (("images", image), ("masks", mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"{row}.png")
    return str(root)


# Config fields of a run of a few steps. A script that needs files is skipped where they are absent.
TINY: dict[str, dict] = {
    "image_classification": {"epochs": 1, "batch_size": 400, "widths": (8, 8)},
    "tabular": {
        "data": str(Path(__file__).with_name("loans.csv")),
        "target": "repaid",
        "epochs": 2,
        "batch_size": 10,
    },
    "activations_and_optimizers": {"data": "digits", "widths": (8,), "epochs": 1},
    "gradient_flow": {
        **{"features": 4, "length": 10, "examples": 60, "batch_size": 10, "steps": 6},
    },
    "character_rnn": {"features": 4, "embedding": 4, "length": 5, "batch_size": 4, "steps": 6},
    "gpt": {
        **{"layers": 1, "heads": 2, "width": 8, "context": 16, "batch_size": 4, "steps": 6},
    },
    "sentiment": {"embedding": 8, "features": 4, "batch_size": 16, "steps": 6},
    "bert": {
        **{"stage": "pretrain", "vocabulary": 400, "width": 8, "layers": 1, "heads": 2},
        **{"positions": 200, "batch_size": 16, "steps": 6},
    },
    "translation": {
        **{"vocabulary": 2000, "width": 8, "layers": 1, "heads": 2, "hidden": 8, "beams": 1},
        **{"batch_size": 16, "steps": 6, "sizes": ()},
    },
    "summarisation": {
        "data": str(Path(__file__).with_name("summaries.csv")),
        **{"vocabulary": 300, "width": 8, "layers": (1, 1), "heads": 2, "hidden": 8, "beams": 2},
        **{"batch_size": 16, "steps": 6, "sizes": ()},
    },
    "forecasting": {"horizon": 24, "look_back": 48, "steps": 8, "batch_size": 16},
    "recommendation": {
        **{"context": 20, "width": 8, "layers": 1, "epochs": 0.02, "batch_size": 20},
    },
    "genomics": {"filters": 8, "layers": 1, "epochs": 1, "batch_size": 700, "members": 2},
    "health_records": {
        **{"width": 4, "epochs": 1, "batch_size": 900, "summaries": False, "trees": False},
    },
    "remaining_life": {"window": 8, "model": "mixed", "epochs": 1, "batch_size": 3000},
    "spoken_digits": {"samples": 1600, "width": 2, "epochs": 1, "batch_size": 800},
    "speech_ctc": {
        **{
            "samples": 8000,
            "encoder": "cnn",
            "width": 2,
            "epochs": 1,
            "batch_size": 800,
            "beam": 1,
        },
    },
    "segmentation": {"widths": (2, 4), "tile": 32, "steps": 6, "batch_size": 2},
    "object_detection": {
        **{"height": 64, "width": 96, "backbone_width": 2, "head_width": 8, "head_depth": 1},
        **{"epochs": 1, "batch_size": 50},
    },
    "autoencoder": {"data": "digits", "epochs": 1, "batch_size": 200, "code": 3, "widths": (16,)},
    "vae": {
        **{"data": "digits", "epochs": 1, "batch_size": 200, "latent": 3, "widths": (16,)},
        **{"samples": 4, "rows": 30},
    },
    "gan": {
        **{"data": "digits", "steps": 8, "batch_size": 16, "latent": 4, "samples": 100},
        **{"widths": (8, 4), "critic_widths": (4, 8), "judge_epochs": 1},
    },
    "diffusion": {
        **{"data": "digits", "steps": 6, "batch_size": 16, "widths": (8,), "patch": 4},
        **{"sampling": 2, "guidance": 2.0, "samples": 40, "glances": 20},
    },
    "contrastive": {
        **{"data": "digits", "widths": (4, 8), "epochs": 1, "batch_size": 400},
    },
    "gan_augmentation": {
        **{"data": "digits", "labelled": 60, "unlabelled": True, "generated": 20, "gan_steps": 3},
        **{"widths": (4, 8), "steps": 8, "batch_size": 16},
    },
    "face_verification": {
        **{"data": "digits", "known": True, "widths": (2, 4), "width": 4, "epochs": 1},
        "batch_size": 400,
    },
    "action_recognition": {
        "data": str(Path(__file__).with_name("clips.csv")),
        **{"axes": 2, "frames": 8, "width": 2, "epochs": 2, "batch_size": 8},
    },
    "question_answering": {
        "data": str(Path(__file__).with_name("stories.csv")),
        **{"width": 8, "heads": 2, "hops": 2, "epochs": 2, "batch_size": 16},
    },
    "trading": {
        "data": str(Path(__file__).with_name("prices.csv")),
        **{"look_back": 2, "width": 4, "epochs": 1, "batch_size": 20},
    },
    "customer_segments": {
        "data": str(Path(__file__).with_name("purchases.csv")),
        **{"widths": (4,), "code": 2, "most": 3, "epochs": 1, "batch_size": 8},
    },
    "point_clouds": {"points": 8, "side": 8, "epochs": 0.1, "batch_size": 20},
    "visual_inspection": {
        **{"data": made_parts(), "learn": "good", "hold_out": (0.25, 0.25), "widths": (2, 4)},
        **{"steps": 6, "batch_size": 4},
    },
    "style_transfer": {"size": 16, "widths": (4, 8), "steps": 8},
}
# Other tiny configurations worth the same test, as (script, fields).
MORE: list[tuple[str, dict]] = [
    (
        "contrastive",
        {
            **TINY["contrastive"],
            **{"method": "mae", "model": "vit", "widths": (8,), "depth": 1},
        },
    ),
    ("health_records", {**TINY["health_records"], "model": "transformer"}),
    (
        "gan_augmentation",
        {
            **{"data": "digits", "labelled": 60, "consistency": True, "widths": (4, 8)},
            **{"steps": 8, "batch_size": 16},
        },
    ),
    (
        "genomics",
        {
            **TINY["genomics"],
            "attention": 1,
            "both": True,
            "folds": 3,
            "fold": 1,
            "batch_size": 300,
        },
    ),
    (
        "tabular",
        {
            **TINY["tabular"],
            **{"target": "age", "ignore": ("repaid",), "trees": False},
            **{"crosses": ("job",), "members": 2},
        },
    ),
    ("recommendation", {"model": "neumf", "width": 4, "epochs": 0.02, "batch_size": 300}),
    (
        "recommendation",
        {
            "model": "factors",
            "fold": 0,
            "refit": True,
            "width": 4,
            "epochs": 0.03,
            "batch_size": 300,
        },
    ),
]
NEEDS_DATA: set[str] = {
    *("character_rnn", "gpt", "sentiment", "bert", "translation"),
    *("forecasting", "recommendation", "remaining_life", "spoken_digits", "speech_ctc"),
    *("segmentation", "object_detection", "genomics", "health_records", "point_clouds"),
}

# Sets of which a beginning will do, and saves minutes.
CUT: set[str] = {"bert", "object_detection", "sentiment", "translation"}
ROWS = {"train": 600, "validation": 90, "test": 90}

CADENCE = {"log_every": 2, "eval_every": 4, "progress": False}


def scripts():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(TINY), "TINY must list every script"
    return [*TINY.items(), *MORE]


def beginning_of(*which):
    splits = load(*which)
    parts = {name: take(part, slice(ROWS[name])) for name, part in splits.parts.items()}
    return dataclasses.replace(splits, **parts)


@pytest.fixture(params=scripts(), ids=lambda p: p[0])
def case(request):
    """(config class, build, tiny config, path) of every script."""
    name, fields = request.param
    kind, build = load_script(FOLDER / f"{name}.py")
    monkeypatch = request.getfixturevalue("monkeypatch")
    if name in CUT:
        for place in ("dl.load", "dl.data.own.door.load", "dl.data.own.boxes.load"):
            monkeypatch.setattr(place, beginning_of)
    if name in NEEDS_DATA:
        monkeypatch.setenv("DL_DATA_DIR", str(request.getfixturevalue("data_dir")))
    return kind, build, kind(**fields), FOLDER / f"{name}.py"


@pytest.mark.slow
def test_resumes_exactly_and_sweeps_to_the_bit(case, tmp_path):
    """Killed and resumed, a run has the bits of one that nothing stopped: of a sweep's lane with its seed, which
    has those of a run alone, or of that run itself where a script's seed cannot be swept."""
    _, build, config, path = case
    experiment = built(build, config)
    kill = max(1, experiment.steps - 2)
    with faults.at("step", kill), pytest.raises(faults.Crash):
        dl.train(build, config, script=path, runs=tmp_path, name="killed", **CADENCE)
    resumed = dl.train(
        build, config, script=path, runs=tmp_path, name="killed", resume=True, **CADENCE
    )
    assert resumed.ended in ("done", "early")
    assert resumed.result["steps"] > kill

    if "seed" not in traceable_fields(experiment).values:
        whole = dl.train(build, config, script=path, runs=tmp_path, name="whole", **CADENCE)
        assert first_difference(whole.folder, resumed.folder) is None
        return
    options = Options(name="sweep", runs=tmp_path, **CADENCE)
    wish = Sweep(seeds=2, lanes="map")
    place = run_sweep(build, config, wish, options, lambda n, t: t, path).folder
    lane = sorted((place / "lanes").iterdir())[0]
    assert json.loads((lane / "config.json").read_text())["config"]["seed"] == config.seed
    assert first_difference(RunFolder(lane), resumed.folder) is None


def test_its_layers_hold_all_its_parameters(case):
    _, build, config, _ = case
    experiment = built(build, config)
    batch = experiment.data[0]
    variables = jax.eval_shape(experiment.task.init, jax.random.key(0), batch)
    found = summary(experiment.task, first_batch(experiment))
    leaves = jax.tree.leaves(variables["params"])
    assert found.parameters == sum(math.prod(leaf.shape) for leaf in leaves)
    assert config.__class__.__module__.endswith("style_transfer") or found.flops > 0
    if batch.keys() >= set(experiment.task.columns):
        jax.eval_shape(experiment.task.predict, variables, batch)


def test_an_ensemble_of_nobody_is_refused(case):
    _, build, config, _ = case
    if not hasattr(config, "members"):
        pytest.skip("has no members")
    for count in (0, -1):
        with raises("range", "1 member or more", f"not {count}"):
            build(dataclasses.replace(config, members=count))


def test_options_of_a_table_of_ones_own_beside_a_named_one_are_refused():
    kind, build = load_script(FOLDER / "tabular.py")
    with raises("option-misplaced", "--target", "pima"):
        build(kind(target="y", data="pima"))


def test_a_classifier_begins_with_all_of_what_was_learned_without_labels_but_its_head():
    kind, build = load_script(FOLDER / "contrastive.py")
    for fields in ({"widths": (4, 8)}, {"method": "mae", "model": "vit", "widths": (8,)}):
        shapes = []
        for stage in ("pretrain", "finetune"):
            experiment = built(build, kind(data="digits", stage=stage, **fields))
            shapes.append(
                jax.eval_shape(experiment.task.init, jax.random.key(0), experiment.data[0])
            )
        learned, fresh = map(by_path, shapes)
        start = Start({"run": "learned"}, learned)
        taken, _ = fitted(fresh, start)
        assert {name.split("/")[1] for name in set(fresh) - set(taken)} in ({"head"}, {"Dense_0"})


def test_fine_tuning_knows_all_labels_of_ones_own_and_never_none_of_a_class(tmp_path):
    for n in range(40):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        Image.new("L", (8, 8), n).save(tmp_path / "ab"[n % 2] / f"{n}.png")
    kind, build = load_script(FOLDER / "contrastive.py")
    fields = {"stage": "finetune", "widths": (4, 8)}
    sizes = [built(build, kind(data=d, **fields)).data.size for d in (str(tmp_path), "digits")]
    assert sizes == [32, 13]  # a hundredth of 1,257 digits
    for share, said in ((0.003, "none of"), (0.0, "above 0"), (1.5, "at most 1")):
        with raises("range", "--labels", said):
            build(kind(data="digits", labels=share, **fields))


MISPLACED = [  # script, fields, what the line names
    ("contrastive", {"data": "digits", "method": "mae"}, ("--method mae", "--model vit")),
    ("image_classification", {"weights": "a", "model": "vit"}, ("--weights", "--model")),
    ("image_classification", {"weights": "a", "widths": (8,)}, ("--weights", "--widths")),
    ("image_classification", {"patch": 2}, ("--patch", "cnn")),
    ("gpt", {"mixer": "mamba", "kv_heads": 1}, ("mamba", "--kv-heads")),
    ("translation", {"model": "attention-rnn", "heads": 2}, ("--heads", "transformer")),
]


@pytest.mark.parametrize(("name", "fields", "words"), MISPLACED)
def test_what_is_not_of_the_chosen_model_is_refused(name, fields, words):
    kind, build = load_script(FOLDER / f"{name}.py")
    with raises("option-misplaced", *words):
        build(kind(**fields))


def test_ratings_that_say_nothing_are_for_models_of_what_comes_next(tmp_path):
    file = tmp_path / "bought.csv"
    file.write_text("user,item\n" + "".join(f"{n % 7},{n % 5}\n" for n in range(35)))
    kind, build = load_script(FOLDER / "recommendation.py")
    assert built(build, kind(data=str(file), model="neumf")).steps >= 1
    with raises("target-one-class", "every rating is the same", "--model factors"):
        build(kind(data=str(file), model="factors"))


def test_texts_without_blanks_are_read_by_characters(tmp_path):
    file = tmp_path / "genes.tsv"
    file.write_text("".join(f"{n % 2}\t{'ACGT'[n % 4] * 30}{'GATTACA' * 3}\n" for n in range(60)))
    kind, build = load_script(FOLDER / "sentiment.py")
    config = kind(data=str(file), unit="character", **TINY["sentiment"])
    batch = built(build, config).data[0]
    assert batch["tokens"].shape == (16, 51)
    assert len(set(batch["tokens"].ravel().tolist())) == 4
    words = built(build, dataclasses.replace(config, unit="word")).data[0]
    assert words["tokens"].shape == (16, 1)


def test_takes_every_option_of_its_recipe(case):
    _, build, config, _ = case
    if not isinstance(config, dl.Recipe):
        pytest.skip("it has two optimisers, or a picture for its parameters")
    check(built(build, dataclasses.replace(config, bfloat16=True, optimizer="lion", clip=None)))
