"""Files are found, or downloaded whole and checked, or the error says where to put them."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
import zipfile

import pytest
from mistakes import raises

from dl.data.readers.files import (
    File,
    data_folder,
    download,
    fetch,
    find,
    members,
    read,
    use_data_folder,
    write_whole,
)

CONTENT = bytes(range(256)) * 500


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.endswith("/lost"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        broken = self.path.endswith("/broken")
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if broken else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def _file(server, *places, sha256=None, size: int | None = 128000):
    digests = (sha256 or hashlib.sha256(CONTENT).hexdigest(),)
    return File("set.bin", tuple(f"{server}/{place}" for place in places), digests, size)


def test_download_gives_the_whole_checked_file(server, tmp_path):
    path = download(_file(server, "good"), tmp_path / "new" / "set")
    assert path.read_bytes() == CONTENT
    assert [item.name for item in path.parent.iterdir()] == ["set.bin"]


@pytest.mark.parametrize(
    ("place", "sha256", "size", "words"),
    [
        ("good", "0" * 64, len(CONTENT), "checksum"),
        ("broken", None, len(CONTENT), "broke off"),
        ("good", None, 1000, "longer than the 1000 bytes"),
        ("lost", None, None, "Not Found"),
    ],
)
def test_a_bad_download_leaves_nothing_behind(server, tmp_path, place, sha256, size, words):
    with raises("download-failed", words):
        download(_file(server, place, sha256=sha256, size=size), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_place_serves_when_the_first_fails(server, tmp_path):
    assert download(_file(server, "broken", "good"), tmp_path).read_bytes() == CONTENT


def test_an_unwritable_folder_is_one_clear_error(server, tmp_path):
    (tmp_path / "file").write_text("")
    with raises("file-write", "set.bin"):
        download(_file(server, "good"), tmp_path / "file" / "set")


def test_a_file_at_hand_is_taken_as_it_is(tmp_path):
    (tmp_path / "set.bin").write_bytes(b"the user's own")
    paths = fetch(tmp_path, [File("set.bin", ("http://127.0.0.1:1/",), ("0" * 64,))], "Set")
    assert paths["set.bin"].read_bytes() == b"the user's own"


@pytest.mark.parametrize(("name", "there"), [("a.csv", "a.csv.gz"), ("a.csv.gz", "a.csv")])
def test_packed_and_plain_names_serve_for_each_other(tmp_path, name, there):
    (tmp_path / there).write_bytes(b"x")
    assert find(tmp_path, File(name)) == tmp_path / there


def test_a_missing_file_without_a_download_says_what_goes_where(tmp_path):
    with raises("data-missing", f"put a.npz, b.npz into {tmp_path}"):
        fetch(tmp_path, [File("a.npz"), File("b.npz")], "Some set")


def test_a_failed_download_says_what_goes_where(tmp_path):
    with raises("download-failed", f"by hand: put a.npz into {tmp_path}"):
        fetch(tmp_path, [File("a.npz", ("http://127.0.0.1:1/a.npz",))], "Some set")


def test_the_data_folder_is_the_argument_the_choice_the_environment_or_the_cache(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("DL_CACHE", str(tmp_path))
    monkeypatch.delenv("DL_DATA_DIR", raising=False)
    assert data_folder() == tmp_path / "data"
    monkeypatch.setenv("DL_DATA_DIR", "/elsewhere")
    assert str(data_folder()) == "/elsewhere"
    use_data_folder("/chosen")
    try:
        assert str(data_folder()) == "/chosen"
        assert str(data_folder("/here")) == "/here"
    finally:
        use_data_folder(None)
    assert str(data_folder()) == "/elsewhere"


def test_gzip_is_unpacked_and_damage_named(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"text"))
    assert read(tmp_path / "a.gz") == b"text"
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"text" * 1000)[:20])
    with raises("file-damaged", "b.gz"):
        read(tmp_path / "b.gz")


def test_members_are_read_in_memory_whatever_they_are_called(tmp_path):
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        for name in ("../../escaped.txt", "inside/good.txt", "inside/other.bin"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"data"))
        link = tarfile.TarInfo("link.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    found = dict(members(tmp_path / "a.tar.gz", ".txt"))
    assert found == {"../../escaped.txt": b"data", "inside/good.txt": b"data"}
    assert [item.name for item in tmp_path.iterdir()] == ["a.tar.gz"]


def test_members_of_a_zip_and_of_damage(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.txt", "data")
    assert dict(members(tmp_path / "a.zip", ".txt")) == {"x.txt": b"data"}
    (tmp_path / "b.tar.gz").write_bytes(b"not an archive")
    with raises("file-damaged", "b.tar.gz"):
        list(members(tmp_path / "b.tar.gz", ".txt"))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fails(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    with raises("file-write", "No space left"):
        write_whole(path, fails)
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1
