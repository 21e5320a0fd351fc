import pathlib
import re
import subprocess
import sys

import pytest

from keras_widerresnet.structures import STRUCTURES
from keras_widerresnet.weights import PRETRAINED

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in sorted((ROOT / "docs").glob("*.md"))}
FIDELITY = PAGES["fidelity.md"]
MOST_LINES, LONGEST_LINE = 150, 140


def section(name, page=README):
    return re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", page, re.S)[1]


def prose(page):
    """The lines of a page that are no table and in no block."""
    return [line for line in re.sub(r"```.*?```", "", page, flags=re.S).splitlines() if not line.startswith("|")]


def test_readme_is_short():
    assert README.count("\n") <= MOST_LINES
    assert [line for line in prose(README) if len(line) > LONGEST_LINE] == []


def printed(script):
    result = subprocess.run([sys.executable, str(ROOT / "scripts" / script)], capture_output=True, text=True, check=True, cwd=ROOT)
    return result.stdout.strip()


def test_table_of_networks_is_the_records():
    assert section("networks") == printed("describe_networks.py")
    assert section("networks").count("\n") == len(STRUCTURES) + 1


@pytest.mark.slow
def test_table_of_port_mistakes_is_what_the_script_prints():
    """The last row is rounding, which differs between machines: it must only be small."""
    ours, theirs = (text.splitlines() for text in (section("ports", FIDELITY), printed("compare_ports.py")))
    assert ours[:-1] == theirs[:-1]
    for line in (ours[-1], theirs[-1]):
        assert float(line.split("|")[2]) < 1e-5


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_files_that_the_documents_name_exist(page):
    text = README if page == "README.md" else PAGES[page]
    for path in re.findall(r"\b((?:scripts|tests|docs)/[\w/-]+\.(?:py|flags|md|png|jpg))", text):
        assert (ROOT / path).is_file(), path


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_links_lead_to_files_and_headings(page):
    folder, text = (ROOT, README) if page == "README.md" else (ROOT / "docs", PAGES[page])
    for address in re.findall(r"\]\(([^)\s]+)\)", text):
        if address.startswith("http"):
            continue
        path, _, heading = address.partition("#")
        target = folder / path if path else folder / page
        # Written when the site is built.
        assert target.is_file() or target.name in ("flags.md", "api.md"), address
        if heading:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.M)
            assert heading in [re.sub(r"[^\w -]", "", name.lower()).replace(" ", "-") for name in headings], address


def test_tests_that_fidelity_names_exist():
    code = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for name in re.findall(r"\btest_\w+", FIDELITY):
        assert f"def {name}(" in code or (ROOT / "tests" / f"{name}.py").exists(), name


def test_no_number_waits_to_be_filled_in():
    assert not re.search(r"\b(DIGITS|CIFAR)_[A-Z]+\b", README + FIDELITY)


def test_every_pretrained_file_is_listed_with_its_checksum():
    for record in PRETRAINED.values():
        for file in record.files:
            kind, digest = file.checksum.split()
            row = next(line for line in PAGES["weights.md"].splitlines() if line.startswith("|") and digest in line)
            assert f"| `{file.name}` | {kind} `{digest}` |" in row and (f"`{record.name}`" in row or not file.include_top)
