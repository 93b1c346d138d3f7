"""Compiler settings: set where known to work, never over the user's, and needed for right results."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.table

from dl import platform
from dl.parallel import processes
from dl.platform import XLA_DEFAULTS, cache_folder, xla_flags


def test_matrix_vector_products_in_lanes_are_right():
    """jax#39103: without our flags, jaxlib 0.10.2 on CPU gets a vmapped matvec and its reduction wrong."""
    rng = np.random.default_rng(0)
    matrices = rng.normal(size=(8, 64, 32)).astype(np.float32)
    vectors = rng.normal(size=(8, 32)).astype(np.float32)

    def norm(matrix, vector):
        return jnp.sum((matrix @ vector) ** 2)

    found = jax.jit(jax.vmap(norm))(matrices, vectors)
    expected = (np.einsum("lij,lj->li", matrices, vectors) ** 2).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_flags_of_the_user_win():
    name = next(iter(XLA_DEFAULTS))
    flags = xla_flags(f"{name}=mine --xla_other=1", {"jaxlib": "0.10.2"})
    assert flags.split().count(f"{name}=mine") == 1
    assert f"{name}={XLA_DEFAULTS[name]}" not in flags
    assert "--xla_other=1" in flags


def test_unknown_releases_get_no_flags():
    ours = {f"{k}={v}" for k, v in XLA_DEFAULTS.items()}
    assert xla_flags("", {"jaxlib": "0.99.0"}) == ""
    assert set(xla_flags("", {"jaxlib": "0.12.0"}).split()) == ours
    # A plugin that stayed behind, as on a machine whose jaxlib alone was renewed, would abort.
    assert xla_flags("", {"jaxlib": "0.12.0", "jax-cuda12-pjrt": "0.7.2"}) == ""
    assert set(xla_flags("", {"jaxlib": "0.12.0", "jax-cuda12-pjrt": "0.12.0"}).split()) == ours
    assert xla_flags("", {"jaxlib": "0.12.0", "libtpu": "0.0.17"}) == ""


def test_settings_hold_in_this_process_and_its_children():
    assert all(name in os.environ["XLA_FLAGS"] for name in XLA_DEFAULTS)
    assert jax.config.jax_compilation_cache_dir


@pytest.mark.parametrize(("chosen", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_openmp_waits_asleep_unless_the_user_chose(chosen, found):
    environment = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"}
    environment |= {"OMP_WAIT_POLICY": chosen} if chosen else {}
    code = "import os, dl; print(os.environ['OMP_WAIT_POLICY'])"
    told = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert told.strip() == found


def test_a_warning_comes_when_jax_was_first():
    code = "import jax; jax.numpy.ones(2).sum(); import dl"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert "Import dl first" in done.stderr


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("DL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x" / "dl"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
@pytest.mark.parametrize(("variable", "kept"), [("DL_OTHER", True), ("MALLOC_ARENA_MAX", False)])
def test_freed_blocks_are_kept_unless_the_user_chose(variable, kept):
    """A second block of 200 MB costs page faults only where the first went back to the kernel."""
    code = (
        "import dl, ctypes, resource; libc = ctypes.CDLL(None)\n"
        "libc.malloc.restype = ctypes.c_void_p; libc.free.argtypes = [ctypes.c_void_p]\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(3):\n"
        "    before, block = faults(), libc.malloc(200_000_000)\n"
        "    ctypes.memset(block, 1, 200_000_000); libc.free(block)\n"
        "print(faults() - before)\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**environment, variable: "4"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (int(done.stdout) < 5_000) == kept


def test_an_accelerator_that_is_there_and_unused_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "CHIPS", {"cuda12": (tmp_path / "nvidia0",), "tpu": ()})
    assert platform.computes_on() == f"JAX {jax.__version__} computes on cpu"
    (tmp_path / "nvidia0").touch()
    asked = jax.config.jax_platforms
    try:
        jax.config.update("jax_platforms", "")
        assert (
            f"NVIDIA GPU of this machine is unused: pip install -U 'jax[cuda12]=={jax.__version__}'"
            in (platform.computes_on())
        )
        jax.config.update("jax_platforms", "cpu")
        assert "unset JAX_PLATFORMS, which is cpu" in platform.computes_on()
    finally:
        jax.config.update("jax_platforms", asked)


def test_a_screen_shows_words_as_they_are(capsys):
    platform.screen().print("NUM:date: [red]of[/red] 5")
    table = rich.table.Table("a")
    table.add_row("NUM:date: [bold]")
    platform.screen().print(table)
    said = capsys.readouterr().out
    assert "NUM:date: [red]of[/red] 5" in said
    assert "NUM:date: [bold]" in said


def test_every_screen_is_such_a_one():
    for path in Path(platform.__file__).parent.rglob("*.py"):
        made = [line for line in path.read_text("utf-8").splitlines() if "rich.console" in line]
        assert path.name == "platform.py" or not any("Console" in line for line in made), path


@pytest.mark.parametrize("coordinator", ["here", ":12345", "here:0", "here:99999", "here:١"])
def test_a_coordinator_that_cannot_be_is_refused_before_jax_aborts(coordinator):
    with pytest.raises(ValueError, match="is host:port, not"):
        platform.start_distributed(coordinator, 1, 0)


def test_who_waits_for_other_processes_says_so(monkeypatch, capsys):
    monkeypatch.setattr(processes, "PATIENCE", 0.01)
    heard = []

    def wait(*_):
        heard.append(signal.getsignal(signal.SIGINT))
        time.sleep(0.3)

    monkeypatch.setattr(platform, "start_distributed", wait)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        processes.join("here:12345", 2, 0)
        assert heard == [signal.SIG_DFL] != [signal.getsignal(signal.SIGINT)]
    finally:
        signal.signal(signal.SIGINT, before)
    assert "waiting for the other processes" in capsys.readouterr().err
