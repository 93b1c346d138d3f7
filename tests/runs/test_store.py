"""Runs in an object store, served by the tests: as on a disk, whatever befalls them."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import faults
import pytest
from mistakes import raises

import dl
from dl.cli.main import main
from dl.proofs.replay import replay_run
from dl.runs import store, writer
from dl.runs.compare import first_difference
from dl.runs.folder import RunFolder
from dl.runs.records import find_runs
from dl.runs.scripts import load_script
from dl.training.checkpoints import Checkpoints

SCRIPTS = Path(__file__).parents[1] / "scripts"
OPTIONS = {"log_every": 4, "eval_every": 8, "save_every": 8, "progress": False}
LOGS = ["metrics.jsonl", "digests.jsonl"]


@pytest.fixture(scope="module")
def served():
    for package in ("moto", "s3fs", "flask", "flask_cors"):
        pytest.importorskip(package, reason="needs s3fs, moto, flask and flask_cors")
    sys.path.insert(0, str(SCRIPTS))
    from store import served

    with pytest.MonkeyPatch.context() as patch, served("bucket") as environment:
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in environment.items():
            patch.setenv(name, value)
        store._filesystem.cache_clear()
        yield store.at("s3://bucket")[0]
    store._filesystem.cache_clear()


@pytest.fixture
def runs(served, elsewhere, request):
    """A place of its own in the store."""
    elsewhere()
    return f"s3://bucket/{request.node.name.replace('[', '-').rstrip(']')}"


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """As on another machine, which has none of what the last one wrote."""

    def move():
        monkeypatch.setenv("DL_CACHE", str(tmp_path / f"machine-{time.monotonic_ns()}"))

    return move


@pytest.fixture(scope="module")
def tiny():
    config, build = load_script(SCRIPTS / "tiny.py")
    return build, config(steps=24)


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory):
    """The run that nothing befell, on a disk."""
    return dl.train(*tiny, runs=tmp_path_factory.mktemp("runs"), name="whole", **OPTIONS).folder


def copied(address):
    return RunFolder(store.opened(address), writes=False)


def names(served, address):
    key = address.removeprefix("s3://")
    return {name.removeprefix(f"{key}/") for name in served.find(key)}


def test_a_run_in_a_store_is_as_on_a_disk(served, runs, tiny, whole, capsys):
    run = dl.train(*tiny, runs=runs, name="one", **{**OPTIONS, "progress": True})
    assert f"run {runs}/one: 24 steps" in capsys.readouterr().out
    assert first_difference(whole, copied(f"{runs}/one")) is None
    found = names(served, f"{runs}/one")
    assert {"config.json", "run.lock.json", "result.json", *LOGS} <= found
    assert {n for n in found if n.endswith(".whole")} == {
        f"checkpoints/{n}.whole" for n in (16, 24)
    }
    assert not {n for n in found if ".writer" in n or ".part" in n or "tmp" in n}
    on_disk = {p.relative_to(whole.path).as_posix() for p in whole.path.rglob("*") if p.is_file()}
    assert {n for n in on_disk if "/" not in n} - {".writer"} == {n for n in found if "/" not in n}
    opened = dl.open_run(f"{runs}/one")
    assert opened.metrics == run.metrics
    assert int(opened.state.step) == int(run.state.step)


@pytest.mark.parametrize("phase", ["step:13", "evaluate:16", "step:3"])
def test_it_goes_on_elsewhere_to_the_same_bits(served, runs, tiny, whole, elsewhere, phase, capsys):
    kind, step = phase.split(":")
    with pytest.raises(faults.Crash), faults.at(kind, int(step)):
        dl.train(*tiny, runs=runs, name="one", **OPTIONS)
    elsewhere()
    dl.train(*tiny, runs=runs, name="one", **{**OPTIONS, "progress": True}, resume=True)
    said = capsys.readouterr().out
    assert ("resuming" in said) == (int(step) > 8), said
    assert first_difference(whole, copied(f"{runs}/one")) is None
    assert ".writer" not in names(served, f"{runs}/one")


def test_without_a_name_the_furthest_is_found(runs, tiny, elsewhere):
    for step in (3, 13):
        with pytest.raises(faults.Crash), faults.at("step", step):
            dl.train(*tiny, runs=runs, name=f"to-{step}", **OPTIONS)
        elsewhere()
    assert dl.train(*tiny, runs=runs, resume=True, **OPTIONS).folder.name == "to-13"
    with raises("name-taken", f"{runs}/to-13".rpartition("/")[2], "--resume"):
        dl.train(*tiny, runs=runs, name="to-13", **OPTIONS)


@pytest.mark.slow
def test_a_sweep_goes_on_elsewhere(served, runs, tiny, tmp_path, elsewhere):
    build, config = tiny
    over = {"learning_rate": [1e-3, 1e-2]}
    there = dl.sweep(build, config, over, lanes="map", runs=tmp_path, name="s", **OPTIONS)
    with pytest.raises(faults.Crash), faults.at("step", 13):
        dl.sweep(build, config, over, lanes="map", runs=runs, name="s", **OPTIONS)
    elsewhere()
    dl.sweep(build, config, over, lanes="map", runs=runs, name="s", resume=True, **OPTIONS)
    lanes = sorted(path.name for path in (there.folder / "lanes").iterdir())
    for lane in lanes:
        mine = RunFolder(there.folder / "lanes" / lane)
        assert first_difference(mine, copied(f"{runs}/s/lanes/{lane}")) is None
    assert len(find_runs([store.opened(f"{runs}/s")])) == 2


def test_what_reads_runs_reads_them_there(served, runs, tiny, capsys):
    dl.train(*tiny, runs=runs, name="one", script=SCRIPTS / "tiny.py", **OPTIONS)
    assert replay_run(Path(f"{runs}/one"), say=lambda line: None)
    for words in (["watch", "--once"], ["report"], ["evaluate"]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["dl", *words, f"{runs}/one"])
            main()
    said = capsys.readouterr().out
    assert f"written: {runs}/one/report.html" in said
    accuracy = dl.open_run(f"{runs}/one").metrics["test/accuracy"]
    assert re.search(rf"^accuracy +{accuracy:.4f} ", said, re.MULTILINE)
    assert "report.html" in names(served, f"{runs}/one")


@pytest.mark.parametrize("what", ["zeroed", "cut", "missing", "list", "list-leads-out"])
def test_damage_is_healed_by_the_checkpoint_before(
    served, runs, tiny, whole, elsewhere, capsys, what
):
    with pytest.raises(faults.Crash), faults.at("step", 20):
        dl.train(*tiny, runs=runs, name="one", **OPTIONS)
    key = f"{runs}/one/checkpoints/16".removeprefix("s3://")
    largest = max(served.find(key, detail=True).values(), key=lambda about: about["size"])
    if what == "zeroed":
        served.pipe_file(largest["name"], bytes(largest["size"]))
    elif what == "cut":
        served.pipe_file(largest["name"], served.cat_file(largest["name"])[:-1])
    elif what == "missing":
        served.rm(largest["name"])
    else:
        damaged = b"[" * 9000 if what == "list" else b'{"../../config.json": 3}'
        served.pipe_file(f"{key}.whole", damaged)
    elsewhere()
    dl.train(*tiny, runs=runs, name="one", resume=True, **OPTIONS)
    assert "checkpoint 16 is damaged" in capsys.readouterr().err
    assert first_difference(whole, copied(f"{runs}/one")) is None


def test_a_checkpoint_without_its_list_is_none_and_is_swept_up(served, runs, tiny, elsewhere):
    with pytest.raises(faults.Crash), faults.at("step", 20):
        dl.train(*tiny, runs=runs, name="one", **OPTIONS)
    key = f"{runs}/one/checkpoints".removeprefix("s3://")
    served.rm(f"{key}/16.whole")
    reader = Checkpoints(store.opened(f"{runs}/one") / "checkpoints", writes=False)
    assert reader.steps() == [8]
    reader.close()
    elsewhere()
    place = store.working(Path(f"{runs}/one"))
    place.mkdir(parents=True)
    with writer.written(place):
        assert not [name for name in served.find(key) if "/16/" in name]
        assert [name for name in served.find(key) if "/8/" in name]


def test_what_fails_for_a_while_is_tried_again(served, runs, monkeypatch):
    monkeypatch.setattr(store, "PAUSES", (0.01, 0.01))
    there = store.at(runs)[0]
    fails, put = [OSError("SlowDown"), TimeoutError("late")], there.put

    def failing(*given):
        if fails:
            raise fails.pop()
        put(*given)

    monkeypatch.setattr(there, "put", failing)
    place = store.working(Path(f"{runs}/one"))
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    store.push(place)
    assert names(served, f"{runs}/one") == {"config.json"}
    assert not fails
    fails += [PermissionError("Forbidden")]
    (place / "config.json").write_text("{ }")
    with raises("store-refused"):
        store.push(place)
    assert not fails


def test_names_that_lead_elsewhere_are_not_followed(served, runs, tmp_path):
    key = f"{runs}/one".removeprefix("s3://")
    for name in ("../../../evil", "a//b", "ok/fine", "c\\d"):
        served.pipe_file(f"{key}/{name}", b"x")
    place = store.opened(f"{runs}/one")
    assert {p.relative_to(place).as_posix() for p in place.rglob("*")} == {"ok", "ok/fine"}


class TestOneWriter:
    @pytest.fixture
    def place(self, runs, monkeypatch):
        monkeypatch.setattr(writer, "PATIENCE", 2.5)
        monkeypatch.setattr(writer, "BEAT", 0.2)
        monkeypatch.setattr(writer, "SETTLE", 0.5)
        place = store.working(Path(f"{runs}/one"))
        place.mkdir(parents=True)
        return place

    def claim(self, served, runs, **more):
        key = f"{runs}/one/.writer".removeprefix("s3://")
        served.pipe_file(key, json.dumps({"token": "other", "beats": 1, **more}).encode())

    def test_who_is_heard_of_is_left_alone(self, place, capsys):
        with writer.written(place):
            with raises("run-in-use", "--name"), writer.written(place):
                pass
            assert "waiting" in capsys.readouterr().err

    def test_the_silent_are_followed_and_stop_when_they_wake(
        self, served, runs, place, monkeypatch
    ):
        monkeypatch.setattr(writer, "BEAT", 60)
        self.claim(served, runs, machine="far away", process=1)
        with raises("run-in-use", f"{runs}/one", "taken over"), writer.written(place):
            self.claim(served, runs, machine="far away", process=1)
            (place / "config.json").write_text("{}")
            store.push(place)
        assert "config.json" not in names(served, f"{runs}/one")
        # What another holds is not taken away.
        assert ".writer" in names(served, f"{runs}/one")

    def test_the_dead_of_this_machine_are_followed_at_once(self, served, runs, place, capsys):
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        self.claim(served, runs, machine=writer._machine(), process=dead.pid)
        with writer.written(place):
            assert "waiting" not in capsys.readouterr().err
        assert ".writer" not in names(served, f"{runs}/one")


class TestMistakes:
    def test_of_the_address(self, tiny):
        with raises("unknown", "ftp://", "s3://"):
            dl.train(*tiny, runs="ftp://bucket/runs", **OPTIONS)
        with raises("package-missing", "gs://", "[gcs]"), pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "gcsfs", None)
            store._filesystem.cache_clear()
            dl.train(*tiny, runs="gs://bucket/runs", **OPTIONS)

    def test_of_the_bucket(self, served, tiny):
        with raises("store-missing", "s3://none-such"):
            dl.train(*tiny, runs="s3://none-such/runs", **OPTIONS)
        with raises("path-characters", ".."):
            dl.train(*tiny, runs="s3://bucket/../other", **OPTIONS)
        with raises("not-a-run", "config.json"):
            dl.open_run("s3://bucket/none-such")

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "store-credentials"),
            ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "store-unreachable"),
        ],
    )
    def test_of_the_environment(self, served, monkeypatch, tmp_path, change, code):
        monkeypatch.setenv("HOME", str(tmp_path))  # may hold credentials
        for name, value in change.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        type(served).clear_instance_cache()
        store._filesystem.cache_clear()
        with raises(code, "s3://bucket"):
            store.opened("s3://bucket/runs")
        type(served).clear_instance_cache()
        store._filesystem.cache_clear()

    def test_of_rights(self):
        with raises("store-refused", "s3://bucket/x", "right"), store.told("s3://bucket/x"):
            raise PermissionError("Forbidden")


@pytest.mark.slow
def test_google_s_store_too(tiny, whole, elsewhere, free_port, monkeypatch):
    for package in ("gcsfs", "gcp_storage_emulator"):
        pytest.importorskip(package, reason="needs gcsfs and gcp-storage-emulator")
    from gcp_storage_emulator.server import create_server

    port = free_port()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{port}")
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "none")
    server = create_server("localhost", port, in_memory=True, default_bucket="bucket")
    server.start()
    try:
        elsewhere()
        with pytest.raises(faults.Crash), faults.at("step", 13):
            dl.train(*tiny, runs="gs://bucket/runs", name="one", **OPTIONS)
        elsewhere()
        dl.train(*tiny, runs="gs://bucket/runs", name="one", resume=True, **OPTIONS)
        assert first_difference(whole, copied("gs://bucket/runs/one")) is None
    finally:
        server.stop()


@pytest.mark.slow
def test_two_processes_apart_are_killed_and_go_on(runs, tmp_path, elsewhere, free_port):
    """Each has a machine of its own, so that only the store is common to them."""
    shape = ["--steps=24", "--batch-size=48", "--optimizer=momentum", "--stream", "--no-progress"]
    flags = [
        *shape,
        "--log-every=4",
        "--eval-every=8",
        "--save-every=8",
        "--resume",
        "--processes=2",
    ]

    def start(place, name, *killed):
        given, begun = [*flags, "--coordinator", f"localhost:{free_port()}"], []
        for process in range(2):
            words = [*(killed if process else ()), SCRIPTS / "tiny.py", *given, "--runs", place]
            environment = os.environ | {"DL_CACHE": str(tmp_path / f"{time.monotonic_ns()}")}
            words += ["--name", name, "--process", str(process)]
            begun.append(subprocess.Popen([sys.executable, *words], env=environment))
        return [process.wait(timeout=300) for process in begun]

    assert start(tmp_path, "whole") == [0, 0]
    assert start(runs, "hurt", SCRIPTS / "killed.py", "step:13") == [2, -9]
    assert copied(f"{runs}/hurt").saved() == 8
    assert start(runs, "hurt") == [0, 0]
    assert first_difference(RunFolder(tmp_path / "whole"), copied(f"{runs}/hurt")) is None


@pytest.mark.parametrize("path", ["runs", "/tmp/runs", "C:/runs", "C:\\runs", "a/s3://b", "s3:"])
def test_a_folder_is_no_store(path):
    assert store.url(path) is None
    assert (
        store.opened(path)
        == store.seen(Path(path), None, False)
        == store.working(Path(path))
        == Path(path)
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_many_random_moments_it_ends_with_the_same_bits(served):
    """Ten kills; ``DL_TEST_KILLS=50`` for more. After each, nothing of the machine is left."""
    given = ["--store", "--only", "digits", "--kills", os.environ.get("DL_TEST_KILLS", "10")]
    done = subprocess.run(
        [sys.executable, SCRIPTS / "soak.py", *given], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    counts = done.stdout.splitlines()[-1]  # earlier lines tell how far it is
    assert "losses: 0, false alarms: 0" in counts
    assert " 0 runs compared" not in counts


def test_runs_of_a_store_are_listed_archived_and_removed(served, runs, tiny, elsewhere, tmp_path):
    from dl.runs.listing import list_runs
    from dl.runs.removing import archive, chosen, remove

    for name in ("first", "second"):
        dl.train(*tiny, runs=runs, name=name, **OPTIONS)
    elsewhere()
    with RunFolder(store.working(Path(runs) / "first")).held():
        rows, bad = list_runs(runs)
        assert [(row.name, row.state) for row in rows] == [("first", "done"), ("second", "done")]
        assert rows[0].path == f"{runs}/first"
        (result,) = served.glob(f"{runs}/first/result.json")
        kept = served.cat_file(result)
        served.rm_file(result)
        assert {r.name: r.state for r in list_runs(runs)[0]}["first"] == "running"
        served.pipe_file(result, kept)
        elsewhere()
    archive(chosen(["first"], Path(runs)), tmp_path / "attic")
    assert [row.name for row in list_runs(runs)[0]] == ["second"]
    assert dl.open_run(tmp_path / "attic" / "first", *tiny).metrics
    remove(chosen([f"{runs}/second"], Path("runs")))
    assert not served.find(runs)
    assert not bad


def test_an_objective_s_runs_lie_in_a_store(runs, tiny, elsewhere, monkeypatch):
    build, config = tiny
    score = dl.objective(build, config, runs=runs, **OPTIONS)
    first = score(learning_rate=1e-2)
    elsewhere()
    monkeypatch.setattr("dl.sweeps.objective.train", None)  # nothing is trained again
    assert dl.objective(build, config, runs=runs, **OPTIONS)(learning_rate=1e-2) == first
