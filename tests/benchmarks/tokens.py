"""Tokens a second of windows of a text, read by ``dl.data.open(file, "corpus")`` and ``crops``, of what ``dl data
tokens`` wrote, and by torch's DataLoader over a Dataset of the same windows.

``python tests/benchmarks/tokens.py [PYTHON]``, where the Python that has torch is another.
"""

from pathlib import Path

import loading
import numpy as np

CHARACTERS, LENGTH, BATCH, STEPS = 5_000_000, 256, 32, 1000


def make(folder: Path) -> None:
    """Words of letters drawn by chance, in lines."""
    letters = np.array([*"etaoinshrdlu  \n"])[np.random.default_rng(0).integers(0, 15, CHARACTERS)]
    (folder / "text.txt").write_text("".join(letters))


def ours(folder: str, way: str):
    import dl
    from dl.data.batches.tokens import crops
    from dl.data.own.token_files import read_tokens
    from dl.data.own.token_writing import write_tokens
    from dl.data.own.units import Units, encode

    if way == "token files":
        if not (tokens := Path(folder) / "tokens").exists():
            write_tokens([f"{folder}/text.txt"], tokens, "chars")
        splits = read_tokens([(tokens, "1")], Units()).splits
        return crops(splits.train["tokens"], LENGTH, BATCH, 0).iterate()
    own = dl.data.open(f"{folder}/text.txt", "corpus", stream=way == "on disk")
    batches = crops(encode(own, Units()).splits.train["tokens"], LENGTH, BATCH, 0)
    return batches.iterate() if way == "on disk" else loading.on_device(batches)


def torchs(folder: str, workers: str):
    import torch

    text = Path(f"{folder}/text.txt").read_text()
    number = {character: place for place, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([number[c] for c in text[: 9 * len(text) // 10]], dtype=torch.int32)

    class Windows(torch.utils.data.Dataset):
        def __len__(self):
            return len(tokens) - LENGTH

        def __getitem__(self, start):
            window = tokens[start : start + LENGTH + 1]
            return window[:-1], window[1:]

    return loading.loader(Windows(), BATCH, workers)


if __name__ == "__main__":
    size = {
        "batch": BATCH * LENGTH,
        "steps": STEPS,
        "what": "tokens",
        "ways": ("resident", "on disk", "token files"),
    }
    loading.compare(__file__, make, ours, torchs, **size)
