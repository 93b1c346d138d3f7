"""Pictures a second read from JPEG files by ``dl.data.open(folder, "pictures", stream=True)`` and by torch's
DataLoader over a Dataset with Pillow.

``python tests/benchmarks/pictures.py [PYTHON]``, where the Python that has torch is another.
"""

from pathlib import Path

import loading
import numpy as np

COUNT, SIDE, SIZE, BATCH = 4000, 256, 64, 64


def make(folder: Path) -> None:
    """Smooth random pictures in ten folders, as large as JPEG makes photographs of that size."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        place = folder / f"class{row % 10}" / f"{row}.jpg"
        place.parent.mkdir(exist_ok=True)
        coarse.resize((SIDE + row % 17, SIDE), Image.Resampling.BICUBIC).save(place, quality=90)


def ours(folder: str, way: str):
    import dl

    splits = dl.data.open(folder, "pictures", stream=True, size=(SIZE,), hold_out=(0.0, 0.0))
    return dl.train_batches(splits.train, BATCH, 0).iterate()


def torchs(folder: str, workers: str):
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

    return loading.loader(Pictures(), BATCH, workers)


if __name__ == "__main__":
    size = {"batch": BATCH, "steps": COUNT // BATCH, "what": "pictures", "ways": ("streamed",)}
    loading.compare(__file__, make, ours, torchs, **size)
