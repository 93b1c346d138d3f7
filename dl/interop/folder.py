"""A model's folder as Hugging Face lays it out: ``config.json`` beside ``model.safetensors`` (or shards).

Nothing is unpickled and no torch is needed: safetensors holds plain arrays.
"""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from dl.core.adapters import merge
from dl.core.errors import UserError, need
from dl.core.task import Variables
from dl.data.readers.given import json_in
from dl.interop import bert, convnext, gpt2, llama, resnet, vit, whisper
from dl.interop.families import Config, Family, labels
from dl.interop.tables import Tensors, to_ours, to_theirs
from dl.models.convnext import ConvNeXt
from dl.models.language import LanguageModel, TextClassifier
from dl.models.resnet import ResNet
from dl.models.speech import WhisperEncoder
from dl.models.vit import ViT

# By ``model_type`` of config.json.
FAMILIES: dict[str, Family] = {
    "resnet": resnet.FAMILY,
    "convnext": convnext.FAMILY,
    "vit": vit.FAMILY,
    "deit": vit.DEIT_FAMILY,
    "bert": bert.FAMILY,
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), bert.ROBERTA_FAMILY),
    "distilbert": bert.DISTILBERT_FAMILY,
    "gpt2": gpt2.FAMILY,
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma"), llama.FAMILY),
    "whisper": whisper.FAMILY,
}
INDEX = "model.safetensors.index.json"


def load(
    folder: str | Path,
    *,
    architecture: str | None = None,
    classes: int | None = None,
    vocabulary: int = 0,
    dropout: float | jax.Array | None = None,
) -> tuple[Any, Variables]:
    """The model in ``folder`` and its variables (float32, on the host).

    Args:
      folder: with ``config.json`` and ``model.safetensors``, or shards and their index.
      architecture: the class of ``transformers`` to read it as, where not the one that the config
        names: ``'BertForMaskedLM'``, say, of a classifier's folder; or what stands after its ``For``.
      classes: of the classifier wanted, for fine-tuning: a :class:`~dl.models.language.TextClassifier`
        from any folder of BERT's kind.
      vocabulary: how many tokens the texts to feed it have, where that shall be checked: no more than
        the model has (tables are padded to round sizes), and as many without its ``tokenizer.json``.
      dropout: rate instead of the config's; may be traced.

    Returns:
      ``model.apply(variables, ...)`` gives the logits that ``transformers`` would. Where
      ``architecture`` or ``classes`` ask for a last layer that the folder lacks or has for another
      number of classes, the variables are without it: :func:`dl.core.transforms.started` begins a task
      from what is there and initialises the rest afresh.

    Raises:
      UserError: no such folder, an architecture not known here, tensors that are missing, of another
        shape or not accounted for.
    """
    place = Path(folder)
    config = read_config(place)
    with _describing(place):
        kind = config.get("model_type")
        if kind not in FAMILIES:
            raise UserError(
                "weights-unsupported",
                f"{place} holds a model of type {kind!r}: known here are {', '.join(FAMILIES)}",
            )
        family = FAMILIES[kind]
        own = (config.get("architectures") or family.architectures)[0]
        wanted = architecture or (_classifier(family) if classes is not None else own)
        wanted = next((n for n in family.architectures if n.endswith(f"For{wanted}")), wanted)
        if wanted not in family.architectures:
            raise UserError(
                "weights-unsupported",
                f"{wanted} of {place} is not known here, only {', '.join(family.architectures)}",
            )
        model = family.build(
            config, wanted, labels(config) if classes is None else classes, dropout
        )
        rows, own_tokens = config.get("vocab_size", vocabulary), (place / "tokenizer.json").exists()
        if vocabulary > rows or (0 < vocabulary < rows and not own_tokens):
            raise UserError(
                "weights-vocabulary",
                f"{place} has {rows} tokens and the texts {vocabulary}: put the model's own "
                "tokenizer.json into the folder",
            )
        found = _variables(place, stamps(place), wanted, classes, architecture is not None)
        # A new tree of the same arrays, so that nobody's changes of it reach the next caller.
        return model, jax.tree.map(lambda x: x, found)


@contextlib.contextmanager
def _describing(folder: Path) -> Iterator[None]:
    """Whatever Flax or Python say of fields that describe no model is a UserError."""
    try:
        yield
    except (UserError, OSError):
        raise
    except Exception as error:
        first = (str(error).splitlines() or [""])[0]
        raise UserError(
            "weights-config",
            f"config.json of {folder} describes no model that can be built ({type(error).__name__}: "
            f"{first:.200}): replace it",
        ) from error


@functools.lru_cache(maxsize=1)  # an experiment is built several times over
def _variables(
    place: Path,
    stamps: tuple[tuple[Path, int], ...],
    wanted: str,
    classes: int | None,
    other: bool,
) -> Variables:
    """The variables of the folder's model, all accounted for.

    Args:
      other: the architecture is not the folder's own, so that the last layer may be missing.
    """
    config = read_config(place)
    family = FAMILIES[config["model_type"]]
    model = family.build(config, wanted, labels(config) if classes is None else classes, 0.0)
    entries, tensors = family.entries(model), _named(read_tensors(stamps), family)
    used = {name for entry in entries for name in entry.real}
    odd = [name for name in tensors if name not in used and not re.search(family.ignored, name)]
    if odd:
        raise UserError(
            "tensors-unplaced", f"{place} holds tensors that {wanted} has no place for: {_few(odd)}"
        )

    heads = tuple(f"{name}/" for name in family.heads if other or classes is not None)
    found = traverse_util.flatten_dict(to_ours(entries, tensors), sep="/")
    lacking = [e for e in entries if e.path not in found and not e.path.startswith(heads)]
    if lacking:
        names = [name for entry in lacking for name in entry.real if name not in tensors]
        raise UserError("tensors-missing", f"{place} lacks tensors of a {wanted}: {_few(names)}")

    expected = _shapes(model, family.example(config))
    sources = {entry.path: ", ".join(entry.real) for entry in entries}
    odd = [path for path, leaf in found.items() if leaf.shape != expected[path]]
    for path in odd:
        if not path.startswith(heads):
            raise UserError(
                "tensor-shapes",
                f"{sources[path]} of {place} make an array of shape {found[path].shape}, where the "
                f"config asks for {expected[path]}",
            )
    layers = {path.rsplit("/", 1)[0] for path in odd}  # a kernel takes its bias along
    kept = {path: x for path, x in found.items() if path.rsplit("/", 1)[0] not in layers}
    return traverse_util.unflatten_dict(kept, sep="/")


def save(
    folder: str | Path, model: nn.Module, variables: Mapping[str, Any], *, shard_bytes: float = 5e9
) -> None:
    """Write ``model`` as a folder that ``transformers`` reads: ``config.json``, ``model.safetensors``.

    Args:
      model: a ResNet, ConvNeXt, ViT, LanguageModel, TextClassifier or WhisperEncoder of :mod:`dl.models`.
      variables: its variables, as :func:`load` gave them or a run's ``run.state.eval_variables``.
      shard_bytes: size above which the tensors are spread over several files and an index.

    Raises:
      UserError: the layout has no place for the model; it says which attribute stands in the way.
    """
    numpy = _safetensors().numpy
    family = _family_of(model)
    variables = merge(dict(variables))  # of adapters
    config = family.config_of(model, variables) | {"dtype": "float32", "torch_dtype": "float32"}
    tensors = to_theirs(family.entries(model), _layers_apart(variables))
    for name in [name for name in tensors if name.endswith(".running_mean")]:
        # Torch's batch norm counts its batches; nothing depends on it at its usual momentum.
        tensors[name.replace("running_mean", "num_batches_tracked")] = np.zeros((), np.int64)
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    for old in [*place.glob("model*.safetensors"), place / INDEX]:
        old.unlink(missing_ok=True)
    parts = _shards(tensors, shard_bytes)
    names = [
        f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(1, len(parts) + 1)
    ]
    if len(parts) == 1:
        names = ["model.safetensors"]
    for name, part in zip(names, parts, strict=True):
        numpy.save_file(part, place / name, metadata={"format": "pt"})
    if len(parts) > 1:
        whole = sum(x.nbytes for x in tensors.values())
        where = {key: name for name, part in zip(names, parts, strict=True) for key in part}
        _write(place / INDEX, {"metadata": {"total_size": whole}, "weight_map": where})
    _write(place / "config.json", config)


def read_config(folder: Path) -> Config:
    """``config.json`` of a model's folder."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(
            "weights-missing",
            f"{path} is missing: give a folder with config.json and model.safetensors",
        )
    return read_object(path)


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file of a model's folder holds."""
    try:
        found = json_in(path)
    except (OSError, ValueError) as error:
        raise UserError("weights-config", f"{path} is not valid JSON ({error})") from None
    if not isinstance(found, dict):
        raise UserError("weights-config", f"{path} holds no object")
    return found


def _root(folder: Path) -> Path:
    """The folder that the files of a model may lie in: its own, or in Hugging Face's cache, whose snapshots are
    links, the one that holds them and what they lead to."""
    return folder.parents[1] if folder.parent.name == "snapshots" else folder


def _shards_in(index: Path) -> list[Path]:
    """The files that an index lists; they lie beside it."""
    names = read_object(index).get("weight_map")
    names = sorted(set(map(str, names.values()))) if isinstance(names, dict) else []
    for name in names:
        path = index.parent / name
        odd = Path(name).name != name or not name.isprintable() or len(name) > 200
        if odd or not path.resolve().is_relative_to(_root(index.parent.resolve())):
            raise UserError(
                "weights-outside",
                f"{index} lists {name!r:.80}, which lies elsewhere: only files beside it are opened",
            )
    if not names:
        raise UserError("weights-config", f"{index} has no weight_map that lists files")
    return [index.parent / name for name in names]


def stamps(folder: Path) -> tuple[tuple[Path, int], ...]:
    """The files of a folder that hold its model, config first, and when each was changed."""
    index = folder / INDEX
    if (folder / "model.safetensors").exists():
        files = [folder / "model.safetensors"]
    elif index.is_file():
        files = _shards_in(index)
    else:
        hint = ""
        if list(folder.glob("*.bin")):
            hint = (
                "; its .bin files are pickles, which are never opened here: save it again with "
                "safe_serialization"
            )
        raise UserError("weights-missing", f"{folder} holds no model.safetensors{hint}")
    for path in files:
        if not os.path.isfile(path):
            raise UserError("weights-missing", f"{path} is missing, though the index lists it")
    return tuple((path, path.stat().st_mtime_ns) for path in (folder / "config.json", *files))


def read_tensors(files: tuple[tuple[Path, int], ...]) -> Tensors:
    """Every tensor by name of the files that :func:`stamps` gave."""
    library = _safetensors()
    tensors = {}
    for path, _ in files[1:]:
        name = ""
        try:
            # Through JAX's arrays, since NumPy alone knows no bfloat16.
            with library.safe_open(path, framework="flax") as file:
                for name in file.keys():  # noqa: SIM118  (not a dict)
                    tensors[name] = np.asarray(file.get_tensor(name))
        except library.SafetensorError as error:
            raise UserError(
                "file-damaged", f"{path} is not a whole safetensors file ({error})"
            ) from None
        except (AttributeError, TypeError) as error:  # float8, of which NumPy knows nothing
            said = f"{path} holds {name!r} in a type that is not read ({error})"
            raise UserError("weights-unsupported", f"{said}: save it as float32") from None
    return tensors


def _named(tensors: Tensors, family: Family) -> Tensors:
    """Under the names of a model with a head: bare models lack the prefix, old ones say gamma, beta."""
    renamed = {
        re.sub(r"(LayerNorm)\.(gamma|beta)$", _new_name, name): x for name, x in tensors.items()
    }
    if any(name.startswith(family.prefix) for name in renamed):
        return renamed
    return {family.prefix + name: x for name, x in renamed.items()}


def _new_name(match: re.Match) -> str:
    return f"{match[1]}.{'weight' if match[2] == 'gamma' else 'bias'}"


def _classifier(family: Family) -> str:
    for name in family.architectures:
        if name.endswith("Classification") and family.heads:
            return name
    raise UserError(
        "weights-no-classifier", "classes= is for classifiers; this folder holds no such model"
    )


def _family_of(model: nn.Module) -> Family:
    if isinstance(model, ResNet):
        return resnet.FAMILY
    if isinstance(model, ConvNeXt):
        return convnext.FAMILY
    if isinstance(model, ViT):
        return vit.DEIT_FAMILY if model.distilled or model.pool == "both" else vit.FAMILY
    if isinstance(model, WhisperEncoder):
        return whisper.FAMILY
    if isinstance(model, TextClassifier):
        return bert.family_of(model.encoder)
    if isinstance(model, LanguageModel):
        if not model.body.causal:
            return bert.family_of(model)
        return llama.FAMILY if model.body.rope else gpt2.FAMILY
    raise UserError(
        "hf-layout",
        f"{type(model).__name__} has no place in Hugging Face's layout: ResNet, ConvNeXt, ViT, "
        "LanguageModel, TextClassifier and WhisperEncoder have",
    )


def _shapes(model: nn.Module, example: Any) -> dict[str, tuple[int, ...]]:
    given = example if isinstance(example, tuple) else (example,)
    made = jax.eval_shape(lambda key, *x: dict(model.init(key, *x)), jax.random.key(0), *given)
    return {path: leaf.shape for path, leaf in traverse_util.flatten_dict(made, sep="/").items()}


def _layers_apart(variables: Mapping[str, Any]) -> dict[str, Any]:
    """A scanned body's stacked layers as those of a body without scan."""
    flat = {}
    for path, leaf in traverse_util.flatten_dict(dict(variables)).items():
        if "body" in path and path[path.index("body") + 1] == "layers":
            place = path.index("body") + 1
            for number, one in enumerate(np.asarray(leaf)):
                flat[(*path[:place], f"layer_{number}", *path[place + 1 :])] = one
        else:
            flat[path] = leaf
    return traverse_util.unflatten_dict(flat)


def _shards(tensors: Tensors, most: float) -> list[Tensors]:
    parts: list[Tensors] = [{}]
    size = 0
    for name, x in tensors.items():
        if parts[-1] and size + x.nbytes > most:
            parts.append({})
            size = 0
        parts[-1][name] = x
        size += x.nbytes
    return parts


def _few(names: list[str]) -> str:
    names = sorted(names)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _write(path: Path, value: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    with part.open("x", encoding="utf-8") as file:  # through no link
        file.write(json.dumps(value, indent=2) + "\n")
    part.replace(path)


def _safetensors():
    library = need("safetensors", extra="interop", why="reading or writing weights")
    need("safetensors.numpy", extra="interop", why="reading or writing weights")
    return library
