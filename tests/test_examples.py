"""The notebooks of examples/: every cell runs, and what is stored in them is what readers should see."""

import base64
import json
import pathlib
import re
import shlex

import pytest

from keras_widerresnet.cli import command_named
from keras_widerresnet.cli.command import parsed

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ("effective_depth", "export_and_ask", "features_and_multi_scale", "fine_tune_on_a_folder", "segmentation_on_shapes")
PATHS = [ROOT / "examples" / f"{name}.ipynb" for name in NAMES]
MOST_PICTURE_BYTES, MOST_FILE_BYTES = 60_000, 200_000
# Of a person's machine: absolute paths, also of temporary folders, and addresses.
PRIVATE = r"(?<![\w.:/])/(?:home|root|Users|tmp|work|var|opt|usr|mnt)/|[A-Z]:\\\\|localhost:\d+/(?:lab|tree)|\w+@\w+"
NOISE = r"[Ww]arning|Traceback|Deprecat|\b[IWEF]\d{4} |absl::|INFO:|oneDNN|XNNPACK"

of_each = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def text(lines):
    return lines if isinstance(lines, str) else "".join(lines)


def stored(path):
    return [output for cell in cells(path, "code") for output in cell["outputs"]]


def printed(output):
    """What a reader reads of an output."""
    return text(output.get("text", "")) + "".join(text(lines) for kind, lines in output.get("data", {}).items() if kind.startswith("text/"))


def test_the_table_lists_them_all():
    assert sorted((ROOT / "examples").glob("*.ipynb")) == PATHS
    assert re.findall(r"^\| \[(\w+)\]\(\1\.ipynb\)", (ROOT / "examples" / "README.md").read_text(), re.M) == list(NAMES)


@of_each
def test_every_cell_runs(path):
    """In a kernel of its own; nothing but TensorFlow's start-up lines goes to stderr."""
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    import notebooks

    found, seconds = notebooks.executed(path)
    print(f"{seconds:.0f} s")
    assert notebooks.complaints(found) == ""
    kinds = [
        [output["output_type"] for output in cell.outputs] for cell in notebooks.without_start_up(found).cells if cell.cell_type == "code"
    ]
    assert kinds == [[output["output_type"] for output in cell["outputs"]] for cell in cells(path, "code")]


@of_each
def test_outputs_are_stored_and_small(path):
    assert [cell["execution_count"] for cell in cells(path, "code")] == list(range(1, len(cells(path, "code")) + 1))
    pictures = [base64.b64decode(output["data"]["image/png"]) for output in stored(path) if "image/png" in output.get("data", {})]
    assert pictures and max(map(len, pictures)) < MOST_PICTURE_BYTES and path.stat().st_size < MOST_FILE_BYTES
    assert any(output["output_type"] == "stream" for output in stored(path))


@of_each
def test_outputs_hold_nothing_of_a_machine_and_no_noise(path):
    assert all(output["output_type"] in ("stream", "display_data", "execute_result") for output in stored(path))
    assert all(output["name"] == "stdout" for output in stored(path) if output["output_type"] == "stream")
    shown = "\n".join(map(printed, stored(path)))
    assert not re.search(PRIVATE, shown) and not re.search(NOISE, shown), shown
    assert set(json.loads(path.read_text())["metadata"]) == {"kernelspec", "language_info"}
    assert all(cell["metadata"] == {} for kind in ("code", "markdown") for cell in cells(path, kind))


@pytest.mark.parametrize("line", ["/home/me/x", "saved in /tmp/abc", "C:\\\\Users", "me@host"])
def test_private_lines_are_found(line):
    assert re.search(PRIVATE, line)


@of_each
def test_begins_with_what_it_shows_and_how_long_it_takes(path):
    first = json.loads(path.read_text())["cells"][0]
    assert first["cell_type"] == "markdown" and text(first["source"]).startswith("# ")
    assert re.search(r"about\s\d+\sseconds\sof\sprocessor\stime", text(first["source"]))


@of_each
def test_commands_and_files_that_it_names_are_there(path):
    prose = "\n".join(text(cell["source"]) for cell in cells(path, "markdown"))
    lines = re.findall(r"^keras-widerresnet (\S+) (.*)$", prose, re.M)
    for name, arguments in lines:
        parsed(command_named(name), [re.sub(r"=(scripts/)", rf"={ROOT}/\1", one) for one in shlex.split(arguments)])
    for name in re.findall(r"\b(?:scripts|docs)/[\w/]+\.\w+", prose):
        assert (ROOT / name).is_file(), name
    for name in re.findall(r'"\.\./([\w/.]+)"', path.read_text().replace('\\"', '"')):
        assert (ROOT / name).exists(), name
