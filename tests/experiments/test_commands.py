"""What trained runs of scripts can be asked for from the command line."""

import sys

import numpy as np
import pytest
from test_scripts import CADENCE, FOLDER, TINY

import dl
from dl.core.experiment import built
from dl.runs.scripts import load_script


def trained(name, data_dir, tmp_path):
    """(module, folder) of a tiny run of a script."""
    kind, build = load_script(FOLDER / f"{name}.py")
    config = kind(**TINY[name], data_dir=str(data_dir))
    run = dl.train(
        built(build, config), FOLDER / f"{name}.py", runs=tmp_path, name="tiny", **CADENCE
    )
    return sys.modules[build.__module__], run.folder.path


@pytest.mark.slow
def test_a_language_model_writes_on_from_a_prompt(data_dir, tmp_path, capsys):
    script, folder = trained("gpt", data_dir, tmp_path)
    capsys.readouterr()
    arguments = ["write", str(folder), "--prompt", "KING", "--length", "20"]
    dl.main(script.Config, script.build, arguments, write=script.write)
    said = capsys.readouterr().out
    assert said.startswith("KING")
    assert len(said) == 4 + 20 + 1


@pytest.mark.slow
def test_a_recogniser_reads_wav_files(data_dir, tmp_path, capsys):
    from scipy.io import wavfile

    script, folder = trained("speech_ctc", data_dir, tmp_path)
    noise = np.random.default_rng(0).integers(-3000, 3000, 6000).astype(np.int16)
    wavfile.write(tmp_path / "noise.wav", 8000, noise)
    wavfile.write(tmp_path / "fast.wav", 16000, noise)
    capsys.readouterr()
    script.transcribe(folder, (tmp_path / "noise.wav",))
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'noise.wav'}:")
    with pytest.raises(dl.UserError, match="16000 Hz"):
        script.transcribe(folder, (tmp_path / "fast.wav",))
