"""Training asks nothing of AutoGraph, which would change none of our functions, nor of tf.data's autotuning; `test_cli.py` shows it of
evaluation, prediction, analysis and export."""

import pathlib

import pytest

from keras_widerresnet.cli import main

FLAGS = pathlib.Path(__file__).parent.parent / "scripts" / "flags"
SHORT = ("--width=0.0625", "--epochs=1", "--steps_per_epoch=1", "--batch_size=2", "--strategy=one_device")


@pytest.mark.parametrize("command, flags", [("train", "digits"), ("train-segmentation", "shapes")])
def test_a_whole_run_leaves_our_functions_as_they_are(command, flags, tmp_path, rewritten, autotuned):
    main([command, f"--flagfile={FLAGS / flags}.flags", *SHORT, f"--output_dir={tmp_path / 'run'}"])
    assert (tmp_path / "run" / "report.md").is_file()
    assert not rewritten and not autotuned
