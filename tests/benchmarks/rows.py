"""Rows a second of a table in csv, read by ``dl.data.open(file, "table")`` and by torch's DataLoader over what
pandas reads.

``python tests/benchmarks/rows.py [PYTHON]``, where the Python that has torch is another.
"""

from pathlib import Path

import loading
import numpy as np

COUNT, NUMBERS, BATCH = 200_000, 20, 256


def make(folder: Path) -> None:
    """Numbers, some missing, two columns of words, and a target of two classes."""
    import pyarrow as pa
    from pyarrow import csv

    rng = np.random.default_rng(0)
    columns = {f"x{n}": np.round(rng.normal(size=COUNT), 4) for n in range(NUMBERS)}
    columns["x3"][rng.random(COUNT) < 0.1] = np.nan
    columns["town"] = np.array([f"town {n}" for n in range(50)])[rng.integers(0, 50, COUNT)]
    columns["kind"] = np.array(["one", "two", "three"])[rng.integers(0, 3, COUNT)]
    columns["target"] = np.where(columns["x0"] > 0, "yes", "no")
    csv.write_csv(pa.table(columns), folder / "rows.csv")


def ours(folder: str, way: str):
    import dl

    splits = dl.data.open(f"{folder}/rows.csv", "table", hold_out=(0.0, 0.0))
    splits = dl.data.tables.numerical_features(splits)
    return loading.on_device(dl.train_batches(splits.train, BATCH, 0))


def torchs(folder: str, workers: str):
    import pandas
    import torch

    table = pandas.read_csv(f"{folder}/rows.csv")
    numbers = table[[f"x{n}" for n in range(NUMBERS)]]
    scaled = ((numbers - numbers.mean()) / numbers.std()).fillna(0).to_numpy("float32")
    codes = np.stack([pandas.factorize(table[name])[0] for name in ("town", "kind")], 1)
    label = pandas.factorize(table["target"])[0]
    missing = numbers.isna().to_numpy("float32")
    arrays = [torch.from_numpy(x) for x in (scaled, missing, codes, label)]
    return loading.loader(torch.utils.data.TensorDataset(*arrays), BATCH, workers)


if __name__ == "__main__":
    size = {"batch": BATCH, "steps": COUNT // BATCH, "what": "rows", "ways": ("resident",)}
    loading.compare(__file__, make, ours, torchs, **size)
