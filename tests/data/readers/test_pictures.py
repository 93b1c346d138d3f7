"""Pictures are read as people see them, and what cannot be read is named in one line."""

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mistakes import raises
from PIL import Image, ImageOps

from dl.core.errors import UserError
from dl.data.readers.pictures import decode_images, fit, read_classes, read_pixels

QUICK = settings(max_examples=40, deadline=None, derandomize=True)
# How each EXIF orientation is brought upright, by the table of the standard (CIPA DC-008, 4.6.5).
TURNS = {
    1: lambda x: x,
    2: np.fliplr,
    3: lambda x: np.rot90(x, 2),
    4: np.flipud,
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: np.rot90(x.swapaxes(0, 1), 2),
    8: np.rot90,
}


def file_of(picture, kind="PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def noise(*shape, seed=0, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


@QUICK
@given(st.sampled_from(sorted(TURNS)), st.integers(1, 9), st.integers(1, 9))
def test_orientation_follows_the_standard(orientation, height, width):
    stored = noise(height, width, 3)
    data = file_of(Image.fromarray(stored), exif=turned(orientation))
    np.testing.assert_array_equal(read_pixels(data), TURNS[orientation](stored))
    np.testing.assert_array_equal(read_pixels(data, upright=False), stored)


@QUICK
@given(
    st.sampled_from(["1", "L", "P", "RGB", "CMYK", "YCbCr"]),
    st.sampled_from(["PNG", "TIFF", "JPEG", "WEBP", "GIF", "BMP", "PPM"]),
    st.sampled_from(["RGB", "L"]),
    st.sampled_from([None, *TURNS]),
)
def test_opaque_pictures_are_what_pillow_turns_and_converts(stored, kind, mode, orientation):
    picture = Image.fromarray(noise(6, 5, 3)).convert(stored)
    takes_exif = orientation is not None and kind in ("PNG", "TIFF", "JPEG", "WEBP")
    try:
        data = file_of(picture, kind, **({"exif": turned(orientation)} if takes_exif else {}))
    except (OSError, ValueError):  # this kind of file does not hold this mode
        return
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert(mode)
    expected = np.asarray(expected).reshape(expected.height, expected.width, -1)
    np.testing.assert_array_equal(read_pixels(data, mode=mode), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_16_bit_grey_keeps_its_whole_range(kind, orientation):
    values = np.linspace(0, 65535, 63).round().astype(np.uint16).reshape(7, 9)
    exif = {} if kind == "PPM" else {"exif": turned(orientation)}
    seen = read_pixels(file_of(Image.fromarray(values), kind, **exif))
    expected = np.rint(values.astype(np.float64) * 255 / 65535)
    expected = expected if kind == "PPM" else TURNS[orientation](expected)
    np.testing.assert_array_equal(seen, np.repeat(expected[..., None], 3, 2))


def test_16_bit_grey_of_other_makings():
    values = noise(4, 6, dtype=np.uint16)
    expected = np.rint(values.astype(np.float64) * 255 / 65535)
    big = Image.frombytes("I;16B", (6, 4), values.astype(">u2").tobytes())
    wide = Image.fromarray(values.astype(np.int32))
    for picture in (big, wide):
        np.testing.assert_array_equal(
            read_pixels(file_of(picture, "TIFF"), mode="L")[..., 0], expected
        )
    white_is_0 = file_of(Image.fromarray(values), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(read_pixels(white_is_0, mode="L")[..., 0], 255 - expected)
    with raises("pixels-range", "a.tif", "0 to 70000"):
        read_pixels(file_of(Image.fromarray(np.array([[0, 70000]], np.int32)), "TIFF"), "a.tif")


def test_floats_are_in_0_1_or_said_to_be_in_0_255():
    values = np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6)
    seen = read_pixels(file_of(Image.fromarray(values), "TIFF"), mode="L")[..., 0]
    np.testing.assert_array_equal(seen, np.rint(values.astype(np.float64) * 255))
    with pytest.warns(UserWarning, match=r"read as 0\.\.255"):
        seen = read_pixels(file_of(Image.fromarray(values * 200), "TIFF"), mode="L")[..., 0]
    np.testing.assert_array_equal(seen, np.rint(values * np.float32(200)))
    for bad, words in ((300.0, ("pixels-range", "from 300 to 300")), (np.nan, ("infinity",))):
        with raises(*words):
            read_pixels(file_of(Image.new("F", (2, 2), bad), "TIFF"))


def over(colour, alpha, background):
    """Colour over background in float64."""
    alpha = alpha[..., None] / 255.0
    return colour * alpha + np.asarray(background, np.float64) * (1 - alpha)


@QUICK
@given(
    st.sampled_from(["RGBA", "LA"]),
    st.sampled_from(["PNG", "TIFF"]),
    st.sampled_from([255, 0, 90, (10, 200, 60)]),
    st.integers(0, 99),
)
def test_what_is_transparent_shows_the_background(mode, kind, background, seed):
    values = noise(5, 4, 4 if mode == "RGBA" else 2, seed=seed)
    values[0, :, -1], values[1, :, -1] = 255, 0
    data = file_of(Image.fromarray(values, mode), kind)
    seen = read_pixels(data, background=background)
    colour = values[..., :-1].astype(np.float64) * np.ones(3)
    np.testing.assert_allclose(seen, over(colour, values[..., -1], background), atol=1.01)
    np.testing.assert_array_equal(seen[0], colour[0])  # opaque: untouched
    np.testing.assert_array_equal(seen[1], np.broadcast_to(background, (4, 3)))
    kept = read_pixels(data, mode="RGBA")
    np.testing.assert_array_equal(kept[..., 3], values[..., -1])


def test_one_value_or_entries_of_a_palette_stand_for_transparent():
    grey = np.array([[0, 40], [200, 0]], np.uint8)
    white = np.where(grey == 0, 255, grey)
    assert_grey = lambda data, want: np.testing.assert_array_equal(  # noqa: E731
        read_pixels(data), np.repeat(want[..., None], 3, 2)
    )
    assert_grey(file_of(Image.fromarray(grey), transparency=0), white)
    assert_grey(file_of(Image.fromarray(grey.astype(np.uint16) * 257), transparency=0), white)
    rgb = Image.fromarray(np.repeat(grey[..., None], 3, 2))
    assert_grey(file_of(rgb, transparency=(0, 0, 0)), white)
    palette = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), "P")
    palette.putpalette([0, 0, 0, 40, 40, 40, 200, 200, 200])
    assert_grey(file_of(palette, transparency=0), white)
    assert_grey(file_of(palette, "GIF", transparency=0), white)
    seen = read_pixels(file_of(palette, transparency=bytes([0, 255, 128])))
    np.testing.assert_allclose(seen[1, 0], 200 * 128 / 255 + 127, atol=1.01)


def test_adobes_inverted_cmyk_is_read_in_its_colours():
    red = file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert b"Adobe" in red
    np.testing.assert_allclose(read_pixels(red)[8, 8], [255, 0, 0], atol=3)


def test_the_first_frame_is_read_and_the_others_are_spoken_of():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    for kind in ("GIF", "TIFF", "PNG"):
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.warns(UserWarning, match="several frames"):
            assert read_pixels(data)[0, 0].tolist() == [255, 0, 0]


def test_the_preview_in_a_telephones_photograph_is_not_spoken_of(recwarn):
    frames = [Image.new("RGB", (16, 16), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    data = file_of(frames[0], "MPO", save_all=True, append_images=frames[1:])
    assert read_pixels(data)[8, 8, 0] > 250
    assert not recwarn


def _bomb() -> bytes:
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50000, 50000, 8, 2, 0, 0, 0)
    body = chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body + chunk(b"IEND", b"")


WHOLE = {k: file_of(Image.fromarray(noise(40, 50, 3)), k) for k in ("PNG", "JPEG", "GIF", "WEBP")}


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", ("picture-damaged", "is empty")),
        (b"no picture at all", ("picture-damaged", "not a picture")),
        *[
            (data[: len(data) // 2], ("picture-damaged", "cut off or damaged"))
            for data in WHOLE.values()
        ],
        *[(data[:15], ("picture-damaged",)) for data in WHOLE.values()],
        (_bomb(), ("picture-too-large", "178,956,970 pixels")),
        (file_of(Image.new("RGB", (9, 9)), "EPS"), ("picture-damaged", "EPS")),
        (file_of(Image.frombytes("LAB", (2, 2), bytes(12)), "TIFF"), ("picture-colours", "CIELAB")),
    ],
)
def test_what_cannot_be_read_is_one_line_with_the_name(tmp_path, data, says):
    path = tmp_path / "some picture.png"
    path.write_bytes(data)
    for file, name in ((path, None), (str(path), None), (data, "some picture.png")):
        with raises(*says) as found:
            read_pixels(file, name)
        assert "some picture.png" in str(found.value)


@QUICK
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_damaged_file_gives_pixels_or_a_user_error(kind, data):
    broken = bytearray(WHOLE[kind])
    for _ in range(3):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(0, len(broken)))
    with warnings.catch_warnings(), contextlib.suppress(UserError):
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        assert read_pixels(bytes(broken[:end]), "a").dtype == np.uint8


def test_absent_files_and_folders_are_named(tmp_path):
    with raises("file-missing", "absent.png"):
        read_pixels(tmp_path / "absent.png")
    with raises("file-read", str(tmp_path)):
        read_pixels(tmp_path)


def test_the_ending_of_the_name_does_not_matter(tmp_path):
    (tmp_path / "a.jpg").write_bytes(WHOLE["PNG"])
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.jpg"), noise(40, 50, 3))


@pytest.mark.parametrize("mode", ["P", "L", "1", "I;16", "I"])
def test_label_images_keep_their_numbers(mode):
    numbers = np.array([[0, 1, 2], [255, 1, 0]], np.uint8)
    if mode == "P":
        picture = Image.fromarray(numbers, "P")
        picture.putpalette(noise(768).tolist())
    elif mode == "1":
        numbers = numbers % 2
        picture = Image.fromarray(numbers.astype(bool))
    else:
        kind = {"L": np.uint8, "I;16": np.uint16, "I": np.int32}[mode]
        numbers = numbers.astype(kind) * (1 if mode == "L" else 100)
        picture = Image.fromarray(numbers)
    data = file_of(picture, "TIFF" if mode == "I" else "PNG")
    np.testing.assert_array_equal(read_classes(data), numbers)
    assert read_classes(data).dtype == numbers.dtype


def test_a_jpeg_is_no_label_image():
    grey = Image.fromarray(noise(16, 16) % 4)
    with raises("label-image-jpeg", "labels", "PNG"):
        read_classes(file_of(grey, "JPEG"), "labels")


def test_a_picture_of_colours_is_no_label_image():
    with raises("label-image-mode", "mode RGB"):
        read_classes(WHOLE["PNG"])


def test_pictures_of_one_set_have_one_size():
    files = [file_of(Image.new("L", size)) for size in ((4, 3), (4, 3), (5, 3))]
    assert decode_images(files[:2], "set", "L").shape == (2, 3, 4, 1)
    with raises("picture-sizes-differ", "set, c is 5 x 3", "4 x 3"):
        decode_images(files, "set", names="abc")
    with raises("picture-damaged", "set, picture 1 is empty"):
        decode_images([files[0], b""], "set")
    with raises("no-pictures", "set"):
        decode_images([], "set")


def test_fitting_covers_and_cuts_the_middle_and_labels_get_no_new_numbers():
    numbers = noise(20, 30, 1) % 3 * 100
    assert fit(numbers, 8, 8).shape == (8, 8, 1)
    assert set(np.unique(fit(numbers, 7, 9, nearest=True))) <= {0, 100, 200}
    halves = np.zeros((10, 30, 3), np.uint8)
    halves[:, 10:20] = 255  # the middle square
    assert (fit(halves, 10, 10) == 255).all()


def test_a_large_jpeg_is_decoded_smaller_where_that_suffices(tmp_path):
    ramp = np.linspace(0, 255, 256).astype(np.uint8)
    picture = np.repeat(np.repeat(ramp[None, :, None], 128, 0), 3, 2)
    Image.fromarray(picture).save(tmp_path / "a.jpg", quality=95)
    Image.fromarray(picture).save(tmp_path / "a.png")
    sides = {
        least: read_pixels(tmp_path / "a.jpg", least=least).shape[:2] for least in (0, 33, 32, 64)
    }
    assert sides == {0: (128, 256), 33: (64, 128), 32: (32, 64), 64: (64, 128)}
    small = read_pixels(tmp_path / "a.jpg", least=32)
    wanted = picture.reshape(32, 4, 64, 4, 3).mean((1, 3))
    np.testing.assert_allclose(small, wanted, atol=3)
    assert read_pixels(tmp_path / "a.png", least=32).shape == (128, 256, 3)
