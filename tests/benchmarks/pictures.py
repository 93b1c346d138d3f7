"""Pictures a second read from JPEG files by ``dl.data.open(folder, "pictures", stream=True)`` and by torch's
DataLoader over a Dataset with Pillow.

``python tests/benchmarks/pictures.py [PYTHON]``, where the Python that has torch is another. With ``--imagenet``
before that, pictures of ImageNet's mean size of which random parts are read at 224 x 224, as
``image_classification --resized-crop`` does, in threads and by two worker processes; and by a loop over Pillow on
one core, which has such parts to read and nothing else to do.
"""

import os
import sys
from pathlib import Path

import loading
import numpy as np

if "--imagenet" in sys.argv:  # told to the processes that read
    sys.argv.remove("--imagenet")
    os.environ["PICTURES"] = "imagenet"
IMAGENET = os.environ.get("PICTURES") == "imagenet"
COUNT, SIDE, SIZE, BATCH = (1500, 430, 224, 50) if IMAGENET else (4000, 256, 64, 64)
WAYS = ("threads", "2 workers", "Pillow") if IMAGENET else ("streamed",)


def make(folder: Path) -> None:
    """Smooth random pictures in ten folders, as large as JPEG makes photographs of that size."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for row in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
        place = folder / f"class{row % 10}" / f"{row}.jpg"
        place.parent.mkdir(exist_ok=True)
        picture = coarse.resize((SIDE + row % 17, SIDE), Image.Resampling.BICUBIC)
        if IMAGENET:  # smooth ones would be a third of photographs' bytes, and decoded sooner
            noise = np.asarray(picture, np.int16) + rng.integers(-12, 13, (*picture.size[::-1], 1))
            picture = Image.fromarray(noise.clip(0, 255).astype(np.uint8))
        picture.save(place, quality=90)


def ours(folder: str, way: str):
    import dl
    from dl.data.own.pictures import random_parts

    if way == "Pillow":
        return loop(folder)
    own = {"size": (SIZE,), "hold_out": (0.0, 0.0), "workers": 2 * (way == "2 workers")}
    train = dl.data.open(folder, "pictures", stream=True, **own).train
    return dl.train_batches(random_parts(train) if IMAGENET else train, BATCH, 0).iterate()


def loop(folder: str):
    """Batches of random parts by Pillow, in a loop."""
    paths = sorted(Path(folder).rglob("*.jpg"))
    draw = np.random.default_rng(0)
    while True:
        chosen = draw.permutation(len(paths))[: len(paths) // BATCH * BATCH]
        for rows in chosen.reshape(-1, BATCH):
            yield np.stack([random_part(paths[row], int(draw.integers(2**32))) for row in rows])


def random_part(path: Path, key: int) -> np.ndarray:
    """A random part of a picture, as large as ``dl`` would read."""
    from PIL import Image, ImageOps

    from dl.data.readers.random_parts import part_of

    with Image.open(path) as picture:
        top, left, tall, wide, mirrored = part_of(picture.height, picture.width, key)
        box = (left, top, left + wide, top + tall)
        part = picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC, box)
        return np.asarray(ImageOps.mirror(part) if mirrored else part)


def torchs(folder: str, workers: str):
    import torch
    from PIL import Image, ImageOps

    class Pictures(torch.utils.data.Dataset):
        def __init__(self):
            self.paths = sorted(Path(folder).rglob("*.jpg"))

        def __len__(self):
            return len(self.paths)

        def __getitem__(self, row):
            path = self.paths[row]
            if IMAGENET:
                key = int(torch.randint(2**32, ()).item())
                return torch.from_numpy(random_part(path, key)), int(path.parent.name[5:])
            with Image.open(path) as picture:
                fitted = ImageOps.fit(picture.convert("RGB"), (SIZE, SIZE))
            return torch.from_numpy(np.array(fitted)), int(path.parent.name[5:])

    return loading.loader(Pictures(), BATCH, workers)


if __name__ == "__main__":
    size = {"batch": BATCH, "steps": COUNT // BATCH, "what": "pictures", "ways": WAYS}
    loading.compare(__file__, make, ours, torchs, **size)
