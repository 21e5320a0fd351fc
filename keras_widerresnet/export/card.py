"""MODEL_CARD.md: what a served network is, where it comes from, what it was measured to do."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import pathlib
import shlex

import tensorflow as tf

from keras_widerresnet.evaluation.evaluation_directory import markdown_table
from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.export.source import FLAGS_FILE, Source
from keras_widerresnet.export.verify import Checked
from keras_widerresnet.preprocessing import MEAN, STD

CARD_FILE = "MODEL_CARD.md"
PACKAGES = ("keras", "keras_widerresnet", "numpy")
UNKNOWN_LICENCE = "not known to the export: that of whoever trained it, and of the data it was trained on"


def write_card(folder: pathlib.Path, config: ExportConfig, source: Source, checked: list[Checked]) -> None:
    """Writes the card of a version into its folder."""
    structure, record = source.structure, source.record
    rows = [("task", "segmentation" if source.stride else "classification"), ("classes", len(source.class_names))]
    if structure:
        rows += [("structure", f"{structure}{f', Model {structure.name}' if structure.name else ''}, width {source.width:g}")]
        rows += [("depth", structure.depth)]
    rows += [("parameters", f"{source.model.count_params():,} with batch-norm statistics")]
    licence = config.licence or (record.licence if record else UNKNOWN_LICENCE)
    rows += [("weights", _origin(source)), ("licence", licence)]
    rows += [("preprocessing", _preprocessing(config, source)), ("published", record.result if record else "nothing")]
    differences = [(one.form, f"{one.difference:.1e}", f"{one.tolerance:g}") for one in checked]
    versions = {"tensorflow": tf.__version__} | {name: importlib.metadata.version(name) for name in PACKAGES}
    text = f"""# {folder.resolve().parent.name}

{markdown_table(rows, ("what", ""))}

## Measured

{_measured(source)}

Against the Keras model, at export, largest difference of a probability relative to the largest:

{markdown_table(differences, ("form", "difference", "refused above"))}

## Signatures

{_signatures(source)}

The class names, one a line, are in `assets/labels.txt`.

## Made by

```
{_command(config)}
```

{", ".join(f"{name} {version}" for name, version in versions.items())}
"""
    (folder / CARD_FILE).write_text(text + _run_flags(source))


def _origin(source: Source) -> str:
    if source.file is None:
        return f"`{source.record.name}`"
    digest = hashlib.sha256(source.file.read_bytes()).hexdigest()
    return f"`{source.file.name}`{', trained by this package' if source.run_dir else ''}, sha256 `{digest}`"


def _preprocessing(config: ExportConfig, source: Source) -> str:
    if source.stride:
        resized = f"longer side resized to {source.size} pixels (bicubic)" if source.size else "no resizing"
    else:
        resized = f"shorter side resized to {source.size} pixels ({config.interpolation}, as PIL), centre crop"
    return f"{resized}; RGB / 255, less {MEAN}, over {STD}; inside the graph"


def _measured(source: Source) -> str:
    """The results table of the run's report, its first."""
    report = source.run_dir / "report.md" if source.run_dir else None
    if report is None or not report.is_file():
        return "No accuracy was measured with these weights at export."
    lines = report.read_text().splitlines()
    first = next((index for index, line in enumerate(lines) if line.startswith("|")), len(lines))
    last = next((index for index in range(first, len(lines)) if not lines[index].startswith("|")), len(lines))
    return "By the run that trained them, with the network as it was before export:\n\n" + "\n".join(lines[first:last])


def _signatures(source: Source) -> str:
    top, pixels = "classes, best first; an image that does not decode has `valid` false", "values 0..255, RGB"
    if source.stride:
        rows = [
            (
                "serving_default",
                "`image_bytes`: strings (n,), JPEG or PNG of any sizes",
                "`label_maps`: uint8 (n, H, W), padded with 255",
            ),
            ("", "", "`scores`: float32 (n, H, W), probability of that class"),
            ("", "", "`sizes`: int32 (n, 2), height and width; `valid`: bool (n,), false where an image does not decode"),
            ("tensor", f"`images`: float32 (n, H, W, 3), {pixels}", "`probabilities`: float32 (n, H, W, classes)"),
        ]
    else:
        side = source.size
        rows = [
            ("serving_default", "`image_bytes`: strings (n,), JPEG or PNG of any sizes", "`classes`: strings (n, k)"),
            ("", "", f"`indices`: int32 (n, k); `probabilities`: float32 (n, k); `valid`: bool (n,). k {top}"),
            ("tensor", f"`images`: float32 (n, {side}, {side}, 3), {pixels}", "`probabilities`: float32 (n, classes)"),
            ("features", "the same", "`features`: float32 (n, channels), what the classifier reads"),
        ]
    return markdown_table(rows, ("signature", "takes", "gives"))


def _command(config: ExportConfig) -> str:
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    given = {name: value for name, value in dataclasses.asdict(config).items() if value != defaults[name] and name != "overwrite"}
    return shlex.join(["python", "scripts/export.py", *(_flag(name, value) for name, value in given.items())])


def _flag(name: str, value: object) -> str:
    if isinstance(value, bool):
        return f"--{'' if value else 'no'}{name}"
    return f"--{name}={','.join(value) if isinstance(value, tuple) else value}"


def _run_flags(source: Source) -> str:
    path = source.run_dir / FLAGS_FILE if source.run_dir else None
    return f"\nFlags of the run that trained it:\n\n```\n{path.read_text().strip()}\n```\n" if path else ""
