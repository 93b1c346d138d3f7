"""Damages of single files."""

import os
import random
import shutil
from pathlib import Path


def flip(path: Path, chance: random.Random) -> None:
    data = bytearray(path.read_bytes())
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


def cut(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size + 1))


def zero(path: Path, chance: random.Random) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def block(path: Path, chance: random.Random) -> None:
    """Zeros for one page, as a power cut leaves a file whose length was written before its content."""
    data = bytearray(path.read_bytes())
    at = chance.randrange(len(data) // 4096 + 1) * 4096
    data[at : at + 4096] = bytes(len(data[at : at + 4096]))
    path.write_bytes(data)


def swap(path: Path, chance: random.Random) -> None:
    """The content of another file of the folder."""
    others = sorted(each for each in path.parent.iterdir() if each.is_file())
    path.write_bytes(chance.choice(others).read_bytes())


def delete(path: Path, chance: random.Random) -> None:
    path.unlink()


def link(path: Path, chance: random.Random) -> None:
    """The same bytes, elsewhere."""
    outside = path.parents[len(path.parents) - 4] / f"outside-{chance.random()}"
    shutil.copy2(path, outside)
    path.unlink()
    path.symlink_to(outside)


def fifo(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_instead(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def added(path: Path, chance: random.Random) -> None:
    with path.open("ab") as file:
        file.write(chance.choice([b"\n", b"\0" * 40, b"{}\n", b"[" * 5000, chance.randbytes(30)]))


DAMAGES = (flip, flip, cut, zero, block, swap, delete, link, fifo, folder_instead, added)


def copy(source: str, target: str) -> None:
    """A file as :func:`shutil.copytree` has it copied, pipes too."""
    if Path(source).is_fifo():
        os.mkfifo(target)
    else:
        shutil.copy2(source, target)
