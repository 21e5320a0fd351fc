import pathlib
import re
import subprocess
import sys

import pytest

from keras_widerresnet.structures import STRUCTURES
from keras_widerresnet.weights import PRETRAINED

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def section(name):
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", README, re.S)[1]


def printed(script):
    result = subprocess.run([sys.executable, str(ROOT / "scripts" / script)], capture_output=True, text=True, check=True, cwd=ROOT)
    return result.stdout.strip()


def test_table_of_networks_is_the_records():
    assert section("networks") == printed("describe_networks.py")
    assert section("networks").count("\n") == len(STRUCTURES) + 1


@pytest.mark.slow
def test_table_of_port_mistakes_is_what_the_script_prints():
    """The last row is rounding, which differs between machines: it must only be small."""
    ours, theirs = (text.splitlines() for text in (section("ports"), printed("compare_ports.py")))
    assert ours[:-1] == theirs[:-1]
    for line in (ours[-1], theirs[-1]):
        assert float(line.split("|")[2]) < 1e-5


def test_files_that_the_documents_name_exist():
    for document in (README, (ROOT / "docs" / "fidelity.md").read_text()):
        for path in re.findall(r"\b((?:scripts|tests|docs)/[\w/]+\.(?:py|flags|md|png))", document):
            assert (ROOT / path).is_file(), path


def test_tests_that_fidelity_names_exist():
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for name in re.findall(r"\btest_\w+", (ROOT / "docs" / "fidelity.md").read_text()):
        assert f"def {name}(" in code or (ROOT / "tests" / f"{name}.py").exists(), name


def test_no_number_waits_to_be_filled_in():
    assert not re.search(r"\b(DIGITS|CIFAR)_[A-Z]+\b", README + (ROOT / "docs" / "fidelity.md").read_text())


def test_every_pretrained_file_is_listed_with_its_checksum():
    for record in PRETRAINED.values():
        for file in record.files:
            kind, digest = file.checksum.split()
            row = next(line for line in README.splitlines() if f"`{file.name}`" in line and line.startswith("|"))
            assert f"{kind} `{digest}`" in row and (f"`{record.name}`" in row or not file.include_top)
