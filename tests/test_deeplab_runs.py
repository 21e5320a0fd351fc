"""Whole runs of `scripts/train_segmentation.py --head=deeplab_v3_plus`."""

import keras
import numpy as np
import pytest
from test_training import ROOT, refused

from keras_widerresnet import WiderResNet
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.cli.train_segmentation import COMMAND
from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.export.run import export
from keras_widerresnet.loading import load_keras_file
from keras_widerresnet.runs import Run
from keras_widerresnet.tasks.segmentation.config import EvaluationConfig, SegmentationConfig
from keras_widerresnet.tasks.segmentation.evaluation import evaluate_segmentation
from keras_widerresnet.tasks.segmentation.loss import MaskedCrossEntropy
from keras_widerresnet.tasks.segmentation.network import make_segmenter
from keras_widerresnet.tasks.segmentation.task import Segmentation
from keras_widerresnet.training.run import train

SHAPES = f"--flagfile={ROOT / 'scripts' / 'flags' / 'shapes.flags'}"
# Too short and narrow to learn much; the crop is a multiple of the logits' stride, but not of the backbone's.
BRIEF = (
    *(SHAPES, "--head=deeplab_v3_plus", "--width=0.0625", "--batch_size=4", "--crop_size=44", "--origin_size=48"),
    *("--steps_per_epoch=3", "--epochs=2"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("deeplab") / "run"
    train(parsed(COMMAND, [*BRIEF, "--learning_rate=0.02", f"--output_dir={output_dir}"]), Segmentation)
    return Run.at(output_dir)


def test_a_run_learns_and_reports_its_head(run):
    losses = [row["val_loss"] for row in run.metrics()]
    assert losses[1] < losses[0]
    assert "DeepLabV3+, logits at stride 4" in (run.path / "report.md").read_text()


def test_a_run_is_evaluated_and_exported_with_the_networks_own_numbers(run, tmp_path):
    config = EvaluationConfig(weights=str(run.path), data="shapes", output_dir=str(tmp_path / "test"), sizes=(48,), shown=1, masks=False)
    settings = evaluate_segmentation(config).settings
    assert settings["output_stride"] == 4
    exported = export(ExportConfig(weights=str(run.path), output=str(tmp_path / "export" / "1")))
    assert exported.checked and all(one.difference < 1e-4 for one in exported.checked)


def test_a_run_goes_on_from_another_with_its_whole_head(run, caplog):
    """As in the release's two phases: no layer starts anew, those inside the pyramid pooling neither."""
    config = parsed(COMMAND, [*BRIEF, f"--weights={run.path}", "--frozen_batch_norm", "--output_dir=unused"])
    network = make_segmenter(config, len(run.class_names), 1, MaskedCrossEntropy())
    loaded = load_keras_file(run.final_network())
    assert len(network.weights) == len(loaded.weights)
    for ours, theirs in zip(network.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(theirs), np.asarray(ours))
    assert caplog.messages == []  # nothing is ignored or initialised


def test_a_classifiers_weights_start_a_run_with_a_new_head(tmp_path):
    source = WiderResNet("112-0-1-1-1-1-0-0", width=0.0625, classes=7, downsampling="stride")
    source.save(tmp_path / "source.keras")
    config = parsed(COMMAND, [*BRIEF, f"--weights={tmp_path / 'source.keras'}", "--freeze=backbone", "--output_dir=unused"])
    network = make_segmenter(config, 5, 1, MaskedCrossEntropy())
    for layer in source.layers:
        if layer.weights and layer.name != "linear7":
            for ours, theirs in zip(network.get_layer(layer.name).weights, layer.weights, strict=True):
                np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    trained = {weight.path.split("/")[0] for weight in network.trainable_weights}
    head = {"decoder_conv", "decoder_norm", "segmentation_head_conv", "segmentation_head_norm", "segmentation_output"}
    assert trained == {"spatial_pyramid_pooling", *head}


def test_synchronised_batch_norms_are_those_inside_the_head_too(tmp_path):
    """Also beside a frozen backbone, whose own batch norms have nothing to synchronise."""
    source = WiderResNet("112-0-1-1-1-1-0-0", width=0.0625, classes=7, downsampling="stride")
    source.save(tmp_path / "source.keras")
    flags = (f"--weights={tmp_path / 'source.keras'}", "--frozen_batch_norm", "--sync_batch_norm", "--output_dir=unused")
    network = make_segmenter(parsed(COMMAND, [*BRIEF, *flags]), 5, 1, MaskedCrossEntropy())
    norms = [layer for layer in network._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization)]
    inside = [norm for norm in norms if norm.name.startswith(("aspp", "bn_p"))]
    assert len(inside) == 6 and all(norm.synchronized for norm in norms)


SETTINGS = {"output_dir": "unused", "data": "shapes", "frozen_batch_norm": False, "head": "deeplab_v3_plus", "crop_size": 64}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"remat": True}, "omit --remat"),
        ({"structure": "112-0-1-0-1-1-0-0"}, "needs units at a stride of 4 pixels"),
        ({"pool_padding": "valid", "structure": "D"}, "another pool padding"),
        ({"head": "aspp"}, "--head must be one of fcn, deeplab_v3_plus"),
        ({"test_steps": 8}, "divisor of the output stride, 4"),
    ],
)
def test_bad_settings(options, words):
    with pytest.raises(ValueError, match=words):
        Segmentation(
            SegmentationConfig(
                **{
                    "output_dir": "unused",
                    "data": "shapes",
                    "frozen_batch_norm": False,
                    "head": "deeplab_v3_plus",
                    "crop_size": 64,
                    **options,
                }
            )
        )


def test_bad_input_gives_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch):
    assert "omit --remat" in refused(capsys, monkeypatch, "train-segmentation", *BRIEF, "--remat", f"--output_dir={tmp_path / 'run'}")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    refusal = refused(capsys, monkeypatch, "train-segmentation", *BRIEF, f"--output_dir={tmp_path / 'run'}")
    assert "--head=deeplab_v3_plus needs keras_hub: pip install" in refusal
    assert not (tmp_path / "run").exists()
