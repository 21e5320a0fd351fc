import json
import pathlib
import subprocess
import sys

import grimp
import keras
import pytest

import keras_widerresnet as kw


def modules_after(code):
    """Names of the modules that a fresh process has loaded after some code."""
    code += "\nimport json, sys; print(json.dumps(list(sys.modules)))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def test_networks_need_no_tensorflow_of_their_own():
    """Importing the package and building a network imports nothing of data or figures, and of training only what saved networks hold."""
    modules = modules_after("import keras_widerresnet; keras_widerresnet.WideResNetE(width=0.05)")
    forbidden = ("keras_widerresnet.data", "keras_widerresnet.training.", "keras_widerresnet.tasks.", "tensorflow_datasets", "tabulate")
    held = {"training.optimizer", "tasks.segmentation", "tasks.segmentation.loss", "tasks.segmentation.metrics"}
    found = {module for module in modules if module.startswith(forbidden)}
    assert found == {f"keras_widerresnet.{name}" for name in held}


@pytest.mark.parametrize("first", ["units", "hub.layers", "weights"])
def test_any_module_may_be_the_first(first):
    """One that imports Keras itself, as registered classes' modules and those that need them do: all classes are registered then too."""
    code = f"import keras_widerresnet.{first} as first\ngetattr(first, 'read_original', None)\nimport keras\n"
    registered = "keras.saving.get_registered_object('keras_widerresnet>{}')"
    names = ("MaxPool", "FeatureNetwork", "Enlarge", "PadToMultiple", "TorchSGD", "BootstrappedCrossEntropy", "SegmentationScores")
    modules_after(code + "\n".join(f"assert {registered.format(name)}, {name!r}" for name in names))


def test_modules_that_import_keras_for_the_registered_ones_are_known():
    """They too may be the first to import Keras, see `keras_widerresnet.__init__`."""
    graph = grimp.build_graph("keras_widerresnet", include_external_packages=True)
    registered = {f"keras_widerresnet.{name}" for name in kw._REGISTERED}
    needed = set.union(registered, *(graph.find_upstream_modules(name) for name in registered))
    assert {name for name in needed if "keras" in graph.find_modules_directly_imported_by(name)} == registered


def test_records_need_neither_keras_nor_tensorflow():
    code = """
import keras_widerresnet, keras_widerresnet.models, keras_widerresnet.runs
from keras_widerresnet.analysis.config import AnalysisConfig
from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.tasks.classification.config import TrainingConfig
from keras_widerresnet.tasks.segmentation.config import SegmentationConfig
from keras_widerresnet.weights.registry import PRETRAINED
"""
    assert not {"keras", "tensorflow", "matplotlib"} & set(modules_after(code))


def test_all_public_names_are_there():
    assert kw.__all__ and all(getattr(kw, name) is not None for name in kw.__all__)
    assert set(kw.__all__) <= set(dir(kw)) and kw.WideResNetA.__name__ == "WideResNetA"
    with pytest.raises(AttributeError):
        kw.WideResNetZ  # noqa: B018


@pytest.mark.parametrize(
    "imports", ["import keras, keras_widerresnet", "import keras_widerresnet, keras", "import keras_widerresnet, tensorflow"]
)
def test_saved_networks_load_in_keras_once_the_package_was_imported(tmp_path, imports):
    """Whatever was imported first, and with nothing of the package used: pools and enlargements are layers of ours."""
    kw.WideResNetFCN("32-0-1-1-0-0-0-0", classes=3, width=0.0625, output_stride=None, upsample=True).save(tmp_path / "model.keras")
    of_run = pathlib.Path(__file__).parents[1] / "saved_models" / "digits" / "run" / "final.keras"  # with its optimizer
    code = f"""{imports}
import keras
for path in {[str(tmp_path / "model.keras"), str(of_run)]!r}:
    print(keras.saving.load_model(path).layers[-1].name)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["upsample", "linear10"]
    assert keras.saving.get_registered_object("keras_widerresnet>MaxPool") is not None
