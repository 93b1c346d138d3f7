"""What trained runs of scripts can be asked for from the command line."""

import sys

import numpy as np
import pytest
from test_scripts import CADENCE, FOLDER, TINY

import dl
from dl.data import use_data_folder
from dl.data.own.sounds import read_sound
from dl.runs.scripts import load_script


@pytest.fixture(autouse=True)
def data_of_the_run(data_dir):
    use_data_folder(data_dir)
    yield
    use_data_folder(None)


def trained(name, tmp_path):
    """(module, folder) of a tiny run of a script."""
    kind, build = load_script(FOLDER / f"{name}.py")
    config = kind(**TINY[name])
    run = dl.train(
        build, config, script=FOLDER / f"{name}.py", runs=tmp_path, name="tiny", **CADENCE
    )
    return sys.modules[build.__module__], run.folder.path


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt", "character_rnn"])
def test_a_language_model_writes_on_from_a_prompt(name, tmp_path, capsys):
    script, folder = trained(name, tmp_path)
    use_data_folder(None)  # the run knows it
    capsys.readouterr()
    arguments = ["write", str(folder), "--prompt", "KING", "--length", "20"]
    dl.main(script.Config, script.build, arguments, write=script.write)
    said = capsys.readouterr().out
    assert said.startswith("KING")
    assert len(said) == 4 + 20 + 1


@pytest.mark.slow
def test_a_recogniser_reads_wav_files(tmp_path, capsys):
    from scipy.io import wavfile

    script, folder = trained("speech_ctc", tmp_path)
    noise = np.random.default_rng(0).integers(-3000, 3000, 6000).astype(np.int16)
    wavfile.write(tmp_path / "noise.wav", 8000, noise)
    wavfile.write(tmp_path / "fast.wav", 16000, np.repeat(noise, 2))
    capsys.readouterr()
    script.transcribe(folder, (tmp_path / "noise.wav",))
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'noise.wav'}:")
    pytest.importorskip("soxr")
    script.transcribe(folder, (tmp_path / "fast.wav",))
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'fast.wav'}:")
    assert len(read_sound(tmp_path / "fast.wav", 8000)) == len(noise)
