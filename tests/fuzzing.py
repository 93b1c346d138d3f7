"""Every reader of files that may be a stranger's, with files that it takes, and damages of them.

A reader that meets a damaged file succeeds or raises UserError in one line: nothing else, at no length, and
within bounds of memory.
"""

import contextlib
import dataclasses
import io
import json
import os
import random
import shutil
import signal
import struct
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dl.core.errors import UserError

Make = Callable[[Path], None]
Read = Callable[[Path], object]


def _opened(name: str, kind: str, **fields) -> Read:
    def read(folder: Path) -> object:
        import dl.data

        return dl.data.open(folder / name, kind, **fields)

    return read


def _text(name: str, text: str | bytes) -> Make:
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / name).write_bytes(data) and None


# -- what a run leaves -------------------------------------------------------------------------------


def _run(folder: Path) -> None:
    from folders import run

    run(folder / "run", [3.0, 2.0, 1.5], 0.5)
    lock = {name: {"a": "1"} for name in ("packages", "compiler", "devices", "data", "code")}
    lock = {"script": None, "environment": {**lock, "data_dir": None, "python": "3"}}
    (folder / "run" / "run.lock.json").write_text(json.dumps(lock))
    (folder / "run" / "baselines.json").write_text('{"majority": {"test/accuracy": 0.5}}')
    line = {"step": 20, "leaves": {"state/step": "0" * 64}}
    (folder / "run" / "digests.jsonl").write_text(json.dumps(line) + "\n")


def _read_run(folder: Path) -> object:
    from dl.runs import lock, readers
    from dl.runs.folder import RunFolder, read_json

    found = RunFolder(folder / "run", writes=False)
    readers.read_scalars(found.metrics)
    return (
        *(list(found.records(path)) for path in (found.metrics, found.digests)),
        *(read_json(found.config), lock.read(found)),
        *(readers.read_result(found.path), readers.read_baselines(found.path)),
    )


def _tree():
    return {"state": {"variables": {"params": np.arange(500.0, dtype=np.float32)}}}


def _checkpoint(folder: Path) -> None:
    from dl.training.checkpoints import Checkpoints

    checkpoints = Checkpoints(folder / "checkpoints")
    checkpoints.save(1, _tree(), {"elapsed": 1.5, "ended": {}}, keep=set())
    checkpoints.close()


def _restore(folder: Path) -> object:
    from dl.training.checkpoints import Checkpoints

    checkpoints = Checkpoints(folder / "checkpoints", writes=False)
    found = checkpoints.restore(_tree(), say=lambda line: None)
    checkpoints.close()
    assert found is None or (found[0]["state"]["variables"]["params"] == np.arange(500.0)).all()
    return found


# -- data --------------------------------------------------------------------------------------------

_ROWS = "".join(f"{n % 7},{n * 0.5},{'ab'[n % 2]},city {n % 3}\n" for n in range(60))
_DAYS = "".join(f"2024-{1 + n // 28:02}-{1 + n % 28:02},{n * n % 17 * 0.5}\n" for n in range(84))
_LINES = "".join(
    json.dumps({"text": f"a good film, the {n}th", "label": "ab"[n % 2]}) + "\n" for n in range(60)
)


def _sounds(folder: Path) -> None:
    import soundfile

    noise = np.random.default_rng(0)
    for kind in "ab":
        (folder / "sounds" / kind).mkdir(parents=True)
        for number, ending in enumerate(("wav", "flac", "wav", "ogg")):
            samples = noise.normal(size=400) / 9
            soundfile.write(folder / "sounds" / kind / f"{number}.{ending}", samples, 8000)


def _picture(path: Path) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)


def _pictures(folder: Path) -> None:
    for number, ending in enumerate(("png", "jpg", "gif", "bmp", "webp", "tif")):
        for kind in "ab":
            _picture(folder / "pictures" / kind / f"{number}.{ending}")


def _voc(folder: Path) -> None:
    for n in range(3):
        _picture(folder / "boxes" / f"{n}.jpg")
        (folder / "boxes" / f"{n}.xml").write_text(
            f"<annotation><filename>{n}.jpg</filename><size><width>32</width><height>24</height></size>"
            "<object><name>cat</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin>"
            "<xmax>20</xmax><ymax>18</ymax></bndbox></object></annotation>"
        )


def _coco(folder: Path) -> None:
    for n in range(3):
        _picture(folder / "boxes" / f"{n}.jpg")
    notes = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [2, 3, 9.5, 8], "iscrowd": 0}
        for n in range(3)
    ]
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 32, "height": 24} for n in range(3)]
    said = {"images": images, "annotations": notes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / "boxes" / "instances.json").write_text(json.dumps(said))


def _yolo(folder: Path) -> None:
    for n in range(3):
        _picture(folder / "boxes" / "images" / f"{n}.jpg")
        (folder / "boxes" / "labels").mkdir(exist_ok=True)
        (folder / "boxes" / "labels" / f"{n}.txt").write_text("0 0.5 0.5 0.25 0.5\n1 .2 .2 .1 .1\n")
    (folder / "boxes" / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")


def _idx(folder: Path) -> None:
    (folder / "a").write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 4, 4) + bytes(32))


def _read_idx(folder: Path) -> object:
    from dl.data.readers.files import damaged, read
    from dl.data.sets.images import parse_idx

    try:
        return parse_idx(read(folder / "a"))
    except ValueError as error:  # as its caller has it
        raise damaged(folder / "a", error) from None


def _npz(folder: Path) -> None:
    buffer = io.BytesIO()
    _picture(folder / "p.png")
    data = (folder / "p.png").read_bytes()
    (folder / "p.png").unlink()
    jpeg = np.frombuffer(data * 2, np.uint8)
    np.savez(
        buffer, label=np.array([0, 1]), jpeg=jpeg, offsets=np.array([0, len(data), 2 * len(data)])
    )
    (folder / "a.npz").write_bytes(buffer.getvalue())


def _read_npz(folder: Path) -> object:
    from dl.data.sets.images import jpeg_columns

    return jpeg_columns(folder / "a.npz")


def _zip(folder: Path) -> None:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.txt", "some words " * 50)
        archive.writestr("two.txt", "other words " * 50)


def _read_zip(folder: Path) -> object:
    from dl.data.readers.files import members

    return list(members(folder / "a.zip", ".txt"))


def _parquet(folder: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table(
        {"x": list(range(60)), "y": [0.5 * n for n in range(60)], "label": ["a", "b"] * 30}
    )
    parquet.write_table(table, folder / "a.parquet")


def _arrow(folder: Path) -> None:
    import pyarrow as pa

    table = pa.table({"x": [0.5 * n for n in range(60)], "label": ["a", "b"] * 30})
    with pa.ipc.new_file(folder / "a.arrow", table.schema) as file:
        file.write_table(table)


def _masks(folder: Path) -> None:
    from PIL import Image

    mask = np.arange(24 * 32).reshape(24, 32) % 2
    for n in range(6):
        _picture(folder / "pictures" / "images" / f"{n}.png")
        (folder / "pictures" / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask.astype(np.uint8)).save(folder / "pictures" / "masks" / f"{n}.png")


def _arrays(folder: Path) -> None:
    np.save(folder / "x.npy", np.arange(60.0).reshape(20, 3))


def _read_arrays(folder: Path) -> object:
    from dl.data.batches.sources import open_arrays

    return open_arrays({"x": folder / "x.npy"})


# -- weights and tokenizers --------------------------------------------------------------------------


def _weights(folder: Path) -> None:
    import jax
    import jax.numpy as jnp

    from dl.interop import folder as weights
    from dl.models.language import LanguageModel
    from dl.models.transformer import Transformer

    model = LanguageModel(30, Transformer(8, 1, 2, causal=True), positions=8)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))
    weights.save(folder, model, variables, shard_bytes=2000)


def _read_weights(folder: Path) -> object:
    from dl.interop import folder as weights

    return weights.load(folder)


def _subwords(folder: Path) -> None:
    from dl.data.tokenizers import train_subwords

    texts = ["some words and other words"] * 5
    train_subwords(texts, "bpe", 300).save(str(folder / "tokenizer.json"))


def _read_subwords(folder: Path) -> object:
    from dl.data.tokenizers import load_subwords

    return load_subwords(folder / "tokenizer.json").encode("some words").ids


def _vocabulary(folder: Path) -> None:
    from dl.data.tokenizers import Vocabulary

    Vocabulary(("a", "b", " ")).save(folder / "v.json")


def _read_vocabulary(folder: Path) -> object:
    from dl.data.tokenizers import load_vocabulary

    return load_vocabulary(folder / "v.json").encode("ab a")


def _tokens(folder: Path) -> None:
    from dl.data.readers.files import sha256
    from dl.data.tokenizers import Vocabulary

    Vocabulary(("a", "b", " ")).save(folder / "vocabulary.json")
    (np.arange(900) % 3).astype("<u2").tofile(folder / "train.bin")
    part = {"count": 900, "digests": {"train.bin": sha256(folder / "train.bin")}}
    said = {"format": 1, "dtype": "uint16", "vocabulary": 3, "tokenizer_file": "vocabulary.json"}
    (folder / "tokens.json").write_text(json.dumps({**said, "parts": {"train": part}}))


def _read_tokens(folder: Path) -> object:
    from dl.data.own.token_files import named_folders, read_tokens

    return read_tokens(named_folders(folder), Values()).splits.train["tokens"][:]


@dataclasses.dataclass(frozen=True)
class Values:
    """A config."""

    steps: int = 3
    rate: float = 0.5
    widths: tuple[int, ...] = (3, 4)
    kind: str = "a"


def _read_values(folder: Path) -> object:
    from dl.runs import toml

    return toml.over({"own": Values()}, folder / "a.toml")


READERS: dict[str, tuple[Make, Read]] = {
    "values": (
        _text("a.toml", 'steps = 7\nrate = 0.1\nwidths = [1, 2]\nkind = "b"\n'),
        _read_values,
    ),
    "tokens": (_tokens, _read_tokens),
    "Arrow": (_arrow, _opened("a.arrow", "table", stream=True)),
    "masks": (_masks, _opened("pictures", "masks")),
    "a run's records": (_run, _read_run),
    "a checkpoint": (_checkpoint, _restore),
    "csv as a table": (_text("a.csv", "age,wage,label,place\n" + _ROWS), _opened("a.csv", "table")),
    "csv as texts": (
        _text("a.csv", "x,y,label,text\n" + _ROWS),
        _opened("a.csv", "texts"),
    ),
    "csv as series": (_text("a.csv", "time,value\n" + _DAYS), _opened("a.csv", "series")),
    "csv as ratings": (
        _text(
            "a.csv",
            "user,item,rating\n" + "".join(f"{n % 6},{n % 10},{n % 5}\n" for n in range(60)),
        ),
        _opened("a.csv", "ratings"),
    ),
    "JSON lines": (_text("a.jsonl", _LINES), _opened("a.jsonl", "texts")),
    "Parquet": (_parquet, _opened("a.parquet", "table")),
    "recordings": (_sounds, _opened("sounds", "recordings")),
    "pictures": (_pictures, _opened("pictures", "pictures")),
    "VOC": (_voc, _opened("boxes", "boxes")),
    "COCO": (_coco, _opened("boxes", "boxes")),
    "YOLO": (_yolo, _opened("boxes", "boxes")),
    "IDX": (_idx, _read_idx),
    "npz": (_npz, _read_npz),
    "npy": (_arrays, _read_arrays),
    "zip": (_zip, _read_zip),
    "weights": (_weights, _read_weights),
    "tokenizer.json": (_subwords, _read_subwords),
    "vocabulary": (_vocabulary, _read_vocabulary),
}


# -- damages -----------------------------------------------------------------------------------------

_BITS = (
    *(b"\0", b"\xff" * 4, b"\x7f\xff\xff\xff", b"-1", b"1e999", b"NaN", b"null", b"[", b"{", b'"'),
    *(b"[" * 3000, b"9" * 400, b"../../", b"/etc/passwd", b"\r", b"\n", b",", b";", b"\x1b[2J"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"true", b"{}", b"[]", b"0", b"\xf0\x9f\x98\x80", b"<", b"&x;"),
)


_VALUES = (
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**15, 10**400, 0.5, -1e308, "", "x", "../x", "\x1b[2J"),
    *([], [1], [[]], {}, {"a": 1}, "nan", "9" * 5000, ["x", None]),
)


def _reworded(data: bytes, chance: random.Random) -> bytes | None:
    """JSON, or one line of JSON lines, with one value or one name replaced; None where it is none."""
    lines = data.split(b"\n")
    whole = len(lines) < 2 or lines[0].strip() in (b"{", b"[")
    at = chance.randrange(max(len(lines) - 1, 1))
    try:
        found = json.loads(data if whole else lines[at])
    except ValueError:
        return None
    places = []  # of every value: what holds it, and under which name

    def walk(value: object) -> None:
        items = (
            value.items()
            if isinstance(value, dict)
            else enumerate(value)
            if isinstance(value, list)
            else ()
        )
        for name, inner in list(items):
            places.append((value, name))
            walk(inner)

    walk(found)
    if not places:
        return None
    holder, name = chance.choice(places)
    if isinstance(holder, dict) and chance.random() < 0.2:
        holder[chance.choice(("", "x", "step"))] = holder.pop(name)
    else:
        holder[name] = chance.choice(_VALUES)
    said = json.dumps(found).encode()
    return said if whole else b"\n".join([*lines[:at], said, *lines[at + 1 :]])


def spoil(folder: Path, chance: random.Random) -> str:
    """Damage one file, in one to four places; in words."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = chance.choice(files)
    data = bytearray(path.read_bytes())
    if chance.random() < 0.5 and (said := _reworded(bytes(data), chance)):
        path.write_bytes(said)
        return f"{path.relative_to(folder)}: another value"
    told = []
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        to = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 50)))
        how = chance.choice(("flip", "flip", "cut", "drop", "put", "over", "repeat", "digits"))
        if how == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
        elif how == "cut":
            del data[at:]
        elif how == "drop":
            del data[at:to]
        elif how in ("put", "over"):
            bit = chance.choice(_BITS)
            data[at : at if how == "put" else at + len(bit)] = bit
        elif how == "repeat":
            data[at:at] = data[at:to] * chance.choice((2, 30))
        elif digits := [place for place, byte in enumerate(data) if 48 <= byte < 58]:
            place = chance.choice(digits)
            data[place : place + 1] = chance.choice(
                (b"-", b"99999999999", b"0.5", b"1e300", b"x", b'"1"')
            )
        told.append(f"{how} at {at}")
    path.write_bytes(data)
    return f"{path.relative_to(folder)}: {', '.join(told)}"


def example(name: str, folder: Path, seed: int) -> str:
    """Spoil one of the files that a reader's maker put into the folder, and read them: '' where it was taken,
    else the line that it was refused in. Whatever else comes of it is raised."""
    read = READERS[name][1]
    spoil(folder, random.Random(seed))
    try:
        with (
            open(os.devnull, "w") as null,
            contextlib.redirect_stdout(null),
            contextlib.redirect_stderr(null),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            read(folder)
    except UserError as error:
        line = str(error)
        assert line.strip(), "an empty line"
        assert "\n" not in line, f"several lines: {line!r}"
        return line
    return ""


def apart(
    call: Callable[[], str], said: Path, seconds: float = 30.0, megabytes: int = 2000
) -> tuple[bool, str]:
    """``call()`` in a process of its own, with so much time and memory: whether it went well, and its line."""
    import resource

    said.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        code = 1
        try:
            os.setsid()  # a Ctrl-C is for the parent
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            most = used + megabytes * 2**20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            said.write_text(call())
            code = 0
        except BaseException:
            said.write_text(traceback.format_exc())
        finally:
            os._exit(code)
    limit = time.monotonic() + seconds
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > limit:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return False, f"it hangs: more than {seconds:g} seconds"
        time.sleep(0.001)
    code = os.waitstatus_to_exitcode(found[1])
    line = said.read_text(errors="replace") if said.exists() else ""
    return code == 0, line if code >= 0 else f"it was ended by signal {-code}"


def copied(master: Path, folder: Path) -> Path:
    """A fresh copy of a reader's files."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(master, folder)
    return folder


def preload() -> None:
    """Import what readers import, once for every process forked, and make what is costly to make."""
    import orbax.checkpoint  # noqa: F401
    import pyarrow.csv
    import pyarrow.json
    import pyarrow.parquet  # noqa: F401
    import soundfile  # noqa: F401
    from PIL import Image

    import dl.cli.main
    import dl.data.own.boxes
    import dl.data.own.pictures
    import dl.data.own.ratings
    import dl.data.own.recordings
    import dl.data.own.series
    import dl.data.own.table
    import dl.data.own.texts
    import dl.interop.folder
    import dl.training.checkpoints  # noqa: F401

    Image.init()
