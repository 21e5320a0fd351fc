"""How the code is laid out: imports go one way, each thing has one home, and the map in docs/architecture.md says where."""

import re
import subprocess
import sys

import pytest
from test_readme import PAGES, ROOT

from keras_widerresnet import runs

PACKAGE = ROOT / "keras_widerresnet"
FILES = [value for name, value in vars(runs).items() if re.fullmatch(r"[A-Z_]+_(FILE|FOLDER)", name)]


def test_imports_keep_the_layers_of_pyproject():
    """No circle, no import upwards, none between tasks, those inside functions included; every module of the package has its layer."""
    # In a process of its own: the linter turns off the logging of what is loaded already.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_there_are_as_many_names_of_files_as_a_run_has():
    assert len(FILES) == len(set(FILES)) >= 18 and {"flags.txt", "metrics.csv", "final.keras", "report.md", "run.json"} <= set(FILES)


@pytest.mark.parametrize("name", [name for name in FILES if "." in name])
def test_a_file_of_a_run_is_named_by_one_module(name):
    modules = [path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py") if name in path.read_text()]
    assert modules == ["runs.py"]


def test_the_map_is_the_folders():
    """Every module and folder of the package, and every folder beside it, is in the map once; and nothing else is."""
    listed = re.search(r"## Map\n(.*?)\n## ", PAGES["architecture.md"], re.S)[1]
    names = [name for row in re.findall(r"^\| (.*?) \|", listed, re.M) for name in re.findall(r"`([^`]+)`", row)]
    modules = [path.name for path in PACKAGE.glob("*.py") if not path.name.startswith("__")]
    folders = [f"{path.name}/" for path in PACKAGE.iterdir() if path.is_dir() and (path / "__init__.py").is_file()]
    beside = ["benchmarks/", "docs/", "examples/", "research/", "saved_models/", "scripts/", "tests/"]
    assert all((ROOT / name).is_dir() for name in beside)
    assert sorted(names) == sorted([*modules, *folders, *beside])


def test_model_code_does_not_name_tensorflow():
    """So that the networks also build with JAX or PyTorch."""
    names = (
        "structures",
        "units",
        "networks",
        "activation_maps",
        "freezing",
        "pyramid",
        "heads",
        "fcn",
        "enlarge",
        "preprocessing",
        "protocols",
        "models",
        "loading",
        "conversion",
    )
    for name in names:
        assert "import tensorflow" not in (PACKAGE / f"{name}.py").read_text()
    for path in (*(PACKAGE / "weights").glob("*.py"), *(PACKAGE / "hub").glob("*.py")):
        assert "import tensorflow" not in path.read_text()


def test_every_file_and_test_that_the_fidelity_table_names_is_there():
    table = (ROOT / "docs" / "fidelity.md").read_text()
    files = re.findall(r"[\w/]+\.(?:py|flags)\b", table)
    assert len(files) > 50
    folders = (ROOT, PACKAGE, ROOT / "scripts" / "flags")
    assert [name for name in files if not any((folder / name).is_file() for folder in folders)] == []
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(path.read_text() for path in ROOT.glob("tests/test_*.py")), re.M))
    assert set(re.findall(r"\btest_\w+\b(?!\.py)", table)) <= defined


def test_no_folder_of_test_data_hides_a_package():
    """`tests/data` is on the path: where an optional package is absent, a folder there of its name would be imported in its place."""
    optional = {"torch", "jax", "timm", "openvino", "onnxruntime", "tf2onnx", "keras_hub", "keras_cv", "kagglehub", "huggingface_hub"}
    assert not optional & {path.name for path in (ROOT / "tests" / "data").iterdir() if path.is_dir()}
