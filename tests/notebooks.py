"""Notebooks of examples/: executed, and stored with what they print and show.

`python tests/notebooks.py examples/*.ipynb` executes each and stores its outputs; nbclient, ipykernel and nbformat are in the `test` extra.
"""

import os
import pathlib
import re
import sys
import time

import nbformat
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parent.parent
FOLDER = ROOT / "examples"
# What TensorFlow's C++ code says of a machine, whatever it is told.
START_UP = re.compile(
    r"(WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} .*(oneDNN|cpu_feature_guard|cuda)|INFO: .*XNNPACK).*\n?"
)


def executed(path, timeout=600):
    """The notebook with new outputs, and the seconds that it took; raises `CellExecutionError` at the first cell that fails."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    start = time.monotonic()
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""})
    return notebook, time.monotonic() - start


def outputs(notebook):
    """All outputs of all cells."""
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def complaints(notebook):
    """What cells have written to stderr, but for TensorFlow's start-up lines."""
    said = "".join(output.text for output in outputs(notebook) if output.output_type == "stream" and output.name == "stderr")
    return START_UP.sub("", said).strip()


def without_start_up(notebook):
    """Removes TensorFlow's start-up lines, and the streams that held nothing else."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for output in cell.outputs:
                if output.output_type == "stream" and output.name == "stderr":
                    output.text = START_UP.sub("", output.text)
            cell.outputs = [output for output in cell.outputs if output.output_type != "stream" or output.text.strip()]
    return notebook


if __name__ == "__main__":
    for name in sys.argv[1:]:
        found, seconds = executed(name)
        nbformat.write(without_start_up(found), name)
        print(f"{name}: {seconds:.0f} s", complaints(found), flush=True)
