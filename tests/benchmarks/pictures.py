"""Pictures a second read from JPEG files by ``dl.data.open(folder, "pictures", stream=True)`` and by torch's
DataLoader over a Dataset with Pillow, on the same files and in turn; and the memory that reading takes.

``python tests/benchmarks/pictures.py [PYTHON]``, where the Python that has torch is another.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COUNT, SIDE, SIZE, BATCH, WORKERS, ROUNDS = 4000, 256, 64, 64, 2, 3


def make(folder: Path) -> None:
    """Smooth random pictures in ten folders, as large as JPEG makes photographs of that size."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        place = folder / f"class{row % 10}" / f"{row}.jpg"
        place.parent.mkdir(exist_ok=True)
        coarse.resize((SIDE + row % 17, SIDE), Image.Resampling.BICUBIC).save(place, quality=90)


def ours(folder: str):
    import dl

    splits = dl.data.open(folder, "pictures", stream=True, size=(SIZE,), hold_out=(0.0, 0.0))
    batches = dl.train_batches(splits.train, BATCH, 0)
    return (batch["image"] for batch in batches.iterate())


def torchs(folder: str):
    import torch
    from PIL import Image, ImageOps

    class Pictures(torch.utils.data.Dataset):
        def __init__(self):
            self.paths = sorted(Path(folder).rglob("*.jpg"))

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, row):
            with Image.open(self.paths[row]) as picture:
                fitted = ImageOps.fit(picture.convert("RGB"), (SIZE, SIZE))
            return torch.from_numpy(np.array(fitted)), int(self.paths[row].parent.name[5:])

    loader = torch.utils.data.DataLoader(
        Pictures(),
        BATCH,
        shuffle=True,
        num_workers=WORKERS,
        drop_last=True,
        persistent_workers=True,
    )
    while True:
        for image, _ in loader:
            yield image


def measure(side: str, folder: str) -> None:
    """Print pictures a second over two passes, after one, and the growth of memory in the second half."""
    batches, steps = {"dl": ours, "torch": torchs}[side](folder), COUNT // BATCH
    for _ in range(steps):
        assert next(batches).shape == (BATCH, SIZE, SIZE, 3)
    held = []
    begun = time.perf_counter()
    for _ in range(2):
        for _ in range(steps):
            next(batches)
        held.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    rate = 2 * steps * BATCH / (time.perf_counter() - begun)
    print(json.dumps([rate, held[-1], held[-1] - held[0]]), flush=True)


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] in ("dl", "torch"):
        measure(*sys.argv[1:3])
        return
    pythons = {"dl": sys.executable, "torch": (sys.argv[1:] or [sys.executable])[0]}
    if subprocess.run([pythons["torch"], "-c", "import torch"], capture_output=True).returncode:
        print("torch is not installed here: name a Python that has it, as the first argument")
        del pythons["torch"]
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        found: dict[str, list] = {side: [] for side in pythons}
        for _ in range(ROUNDS):
            for side, python in pythons.items():
                command = [python, __file__, side, folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
    for side, rounds in found.items():
        rates = ", ".join(f"{rate:.0f}" for rate, _, _ in rounds)
        most, growth = max(r[1] for r in rounds), max(r[2] for r in rounds)
        print(
            f"{side:5} {max(rounds)[0]:6.0f} pictures/s of {rates}; {most:.0f} MiB, grown by {growth:.1f}"
        )
    if "torch" in found:
        print(
            f"dl / torch = {max(found['dl'])[0] / max(found['torch'])[0]:.2f}  (above 1 is faster)"
        )


if __name__ == "__main__":
    main()
