"""A loss of power, imitated: what was not synced is dropped, as the worst of file systems would."""

import os
import stat
from pathlib import Path
from unittest import mock


class Power:
    """Within it every fsync is noted; :meth:`lost` gives what the disk then holds of a folder.

    A file has the content that it had when it was last synced, nothing where it never was; a folder has
    the names that it had when it was last synced.
    """

    def __init__(self):
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, tuple[int, bool]]] = {}
        self.moments: list[tuple[dict, dict]] = []
        self._fsync = os.fsync

    def __enter__(self):
        self._patch = mock.patch.object(os, "fsync", self._note)
        self._patch.__enter__()
        return self

    def __exit__(self, *error):
        self._patch.__exit__(*error)

    def _note(self, handle):
        handle = handle if isinstance(handle, int) else handle.fileno()
        found, path = os.fstat(handle), f"/proc/self/fd/{handle}"
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(path) as entries:
                self.folders[found.st_ino] = {
                    each.name: (each.inode(), each.is_dir()) for each in entries
                }
        else:
            self.files[found.st_ino] = Path(path).read_bytes()
        self.moments.append((dict(self.files), dict(self.folders)))

    def lost(self, folder: Path, to: Path, moment: int = -1) -> None:
        """Put into ``to`` what of ``folder``, whose own name is safe, is left of that moment (a fsync)."""
        files, folders = self.moments[moment]

        def write(inode: int, place: Path) -> None:
            place.mkdir()
            for name, (inner, is_folder) in folders.get(inode, {}).items():
                if is_folder:
                    write(inner, place / name)
                else:
                    (place / name).write_bytes(files.get(inner, b""))

        write(folder.stat().st_ino, to)
