"""What describes the package: pyproject.toml, the conventional files, and the wheel that is built of them."""

import email
import importlib.metadata
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from project import ROOT, project

import keras_widerresnet


def test_the_package_is_described_in_pyproject_alone():
    assert (ROOT / "setup.py").read_text().count("\n") < 10 and "setup()" in (ROOT / "setup.py").read_text()
    about = project()
    assert about["name"] == "keras_widerresnet" and about["dynamic"] == ["version"]
    assert about["license"] == "Apache-2.0" and all((ROOT / name).is_file() for name in about["license-files"])
    assert about["scripts"] == {"keras-widerresnet": "keras_widerresnet.cli:main"}
    assert about["urls"]["Paper"] == "https://arxiv.org/abs/1611.10080"
    for version in ("3.10", "3.11", "3.12", "3.13"):
        assert f"Programming Language :: Python :: {version}" in about["classifiers"]


def test_the_installed_package_is_the_one_that_is_described():
    about = importlib.metadata.metadata("keras_widerresnet")
    assert about["Version"] == keras_widerresnet.__version__ and about["Name"] == "keras_widerresnet"
    assert set(project()["optional-dependencies"]) >= {"tensorflow", "tensorflow-cpu", "tensorflow-cuda", "test", "docs"}


def test_tests_use_every_extra_that_ci_can_install():
    extras = project()["optional-dependencies"]
    itself = next(one for one in extras["test"] if one.startswith("keras_widerresnet["))
    # What `hub` names is installed without its dependencies, see .ci/run.
    large = {"benchmark", "docs", "hub", "tensorflow", "tensorflow-cpu", "tensorflow-cuda", "test", "torch"}
    assert set(re.search(r"\[(.*)\]", itself)[1].split(",")) == set(extras) - large


def test_the_licence_is_apache_2_and_the_notice_names_every_kind_of_weights():
    licence, notice = ((ROOT / name).read_text() for name in ("LICENSE", "NOTICE"))
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence
    assert "Copyright 2026 The keras_widerresnet authors" in licence and "[yyyy]" not in licence
    for name in _pretrained():
        assert name in notice, name


def _pretrained():
    from keras_widerresnet.weights import PRETRAINED

    # The resnet38d-tf file of VOC is called by its file name.
    return [record.files[0].name if name == "voc-backbone" else name for name, record in PRETRAINED.items()]


def test_the_citation_is_the_papers_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == keras_widerresnet.__version__ and citation["license"] == project()["license"]
    paper = citation["preferred-citation"]
    assert paper["title"] == "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition"
    assert [author["family-names"] for author in paper["authors"]] == ["Wu", "Shen", "van den Hengel"]
    assert (paper["journal"], paper["volume"], paper["start"], paper["end"], paper["year"]) == ("Pattern Recognition", 90, 119, 133, 2019)


def test_the_changelog_has_this_version_and_what_came_after_it():
    sections = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert sections[0] == "Unreleased" and sections[1] == keras_widerresnet.__version__


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert ".ci/run" in [step.get("run") for step in workflow["jobs"]["ci"]["steps"]]
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        assert yaml.safe_load(path.read_text()), path
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert {hook["entry"].split()[0] for repo in hooks for hook in repo["hooks"]} == {"ruff", "mypy", "lint-imports"}


@pytest.mark.slow
def test_the_wheel_has_licence_metadata_and_command_and_no_tests(tmp_path):
    # Of a copy: what an earlier build left beside the sources would be packed again.
    copy = shutil.copytree(ROOT, tmp_path / "copy", ignore=shutil.ignore_patterns(".git", ".venv", "build", "runs", "site", "*.egg-info"))
    subprocess.run([sys.executable, "-m", "pip", "wheel", str(copy), "--no-deps", "--wheel-dir", str(tmp_path)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
        folder = f"keras_widerresnet-{keras_widerresnet.__version__}.dist-info"
        about = email.message_from_bytes(opened.read(f"{folder}/METADATA"))
        assert "keras-widerresnet = keras_widerresnet.cli:main" in opened.read(f"{folder}/entry_points.txt").decode()
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/NOTICE"} <= set(names)
    assert {name.partition("/")[0] for name in names} == {"keras_widerresnet", folder}
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "keras_widerresnet").rglob("*") if path.suffix in (".py", ".pyi", ".csv")}
    assert modules <= set(names) and "keras_widerresnet/py.typed" in names
    assert about["License-Expression"] == "Apache-2.0" and about["Version"] == keras_widerresnet.__version__
    assert about["Description-Content-Type"] == "text/markdown" and about.get_payload().startswith("# keras_widerresnet")
    assert about.get_all("Project-URL") == ["Paper, https://arxiv.org/abs/1611.10080"]
