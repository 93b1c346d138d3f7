"""Data sets of the Hugging Face hub, or saved from their ``datasets`` library, as ``hf:NAME_OR_FOLDER``."""

import dataclasses
from typing import Any

import numpy as np

from dl.core.errors import UserError, need
from dl.data.own.found import Found, Line, part_in
from dl.data.readers.files import digest_files
from dl.data.readers.given import given_path

NO_SCRIPTS = 4  # the version of ``datasets`` from which on a set is data alone


def read_hub(name: str, module: Any, own: Any) -> Found:
    """What ``module`` (of a kind, such as :mod:`dl.data.own.texts`) finds in the tables of a hub's data set.

    Args:
      name: of the hub, with a configuration after a colon where there are several (``nyu-mll/glue:sst2``); or a
        folder that ``save_to_disk`` wrote, which needs no network.
      own: the kind's fields.

    Returns:
      Its rows, whose parts are those of the set; class numbers stand under their names.

    Raises:
      UserError: the library is absent, or there is no such set, or it holds what no table does.
    """
    library = need("datasets", extra="hub", why=f"opening hf:{name}")
    sets = _load(library, name)
    parts = {split: part_in(split) for split in sets}
    left = [split for split, part in parts.items() if part is None]
    if len(sets) == 1:
        parts, left = dict.fromkeys(sets, ""), []
    elif "train" not in parts.values():
        raise UserError(
            "part-empty", f"hf:{name} has the splits {', '.join(sets)}, and none called train"
        )
    import pyarrow as pa

    kept = {split: part for split, part in parts.items() if part is not None}
    tables = [_table(library, sets[split], name) for split in kept]
    table = pa.concat_tables(tables, promote_options="permissive")
    if len(sets) > 1 and not own.split:
        column = _free("split", table.column_names)
        words = np.repeat([kept[split] for split in kept], [len(sets[split]) for split in kept])
        table = table.append_column(column, pa.array(words.tolist(), pa.string()))
        own = dataclasses.replace(own, split=column)
    found = module.read(table, own)
    files = sorted({file["filename"] for split in kept for file in sets[split].cache_files})
    prints = {f"hf:{name} {split}": sets[split]._fingerprint for split in kept}
    digests = {f"hf:{name}": digest_files(files)} if files else prints
    info = dataclasses.replace(found.info, title=f"hf:{name}", digests=digests)
    lines = tuple(Line(f"split {split}", "left out", "no part by its name") for split in left)
    return dataclasses.replace(found, info=info, lines=(*found.lines, *lines))


def _load(library: Any, name: str) -> dict[str, Any]:
    """The splits of a set by name."""
    path, version = given_path(name), library.__version__
    if int(version.partition(".")[0]) < NO_SCRIPTS:
        raise UserError(
            "hub-unreadable",
            f"cannot open hf:{name}: datasets {version} runs the scripts that a set may bring along; install "
            f"datasets {NO_SCRIPTS} or newer",
        )
    try:
        if path.is_dir() and any((path / f).exists() for f in ("dataset_dict.json", "state.json")):
            found = library.load_from_disk(str(path))
        elif path.exists():
            found = library.load_dataset(str(path))
        else:
            place, _, configuration = name.partition(":")
            found = library.load_dataset(place, configuration or None)
    except Exception as error:  # the library raises whatever its readers do
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError("hub-unreadable", f"cannot open hf:{name}: {said}") from None
    return dict(found) if isinstance(found, dict) else {"train": found}


def _table(library: Any, rows: Any, name: str) -> Any:
    """The rows as a ``pyarrow.Table`` with class names for class numbers, nested columns as ``a.b``."""
    import pyarrow as pa

    for heading, feature in rows.features.items():
        if isinstance(feature, library.Image | library.Audio):
            raise UserError(
                "hub-not-a-table",
                f"hf:{name} has {type(feature).__name__.lower()}s in {heading!r}, which are not read from there: "
                "save them as files, a folder for each class",
            )
    table = rows.with_format("arrow")[:]
    for place, (heading, feature) in enumerate(rows.features.items()):
        if isinstance(feature, library.ClassLabel):
            names = [
                None if number is None or number < 0 else feature.int2str(number)
                for number in table.column(heading).to_pylist()
            ]
            table = table.set_column(place, heading, pa.array(names, pa.string()))
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _free(name: str, taken: list[str]) -> str:
    """``name``, or what stands in its place where the table has such a column already."""
    return name if name not in taken else _free(f"{name}_", taken)
