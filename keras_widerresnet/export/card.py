"""MODEL_CARD.md: a served network's description, origin and measured results."""

from __future__ import annotations

import hashlib
import pathlib
import shlex

from keras_widerresnet.export.config import ExportConfig
from keras_widerresnet.export.source import Exported
from keras_widerresnet.export.verify import Checked
from keras_widerresnet.options import given_flags
from keras_widerresnet.preprocessing import MEAN, STD
from keras_widerresnet.reporting import markdown_table
from keras_widerresnet.runs import versions

CARD_FILE = "MODEL_CARD.md"
PACKAGES = ("tensorflow", "keras", "keras_widerresnet", "numpy")
UNKNOWN_LICENCE = "unknown to the export; determined by whoever trained the weights and by the training data"


def write_card(folder: pathlib.Path, config: ExportConfig, source: Exported, checked: list[Checked]) -> None:
    """Writes the model card of a version into its folder."""
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
    found = versions()
    text = f"""# {folder.resolve().parent.name}

{markdown_table(rows, ("what", ""))}

## Measured

{_measured(source)}

Largest difference of a probability from the Keras model, relative to the largest probability, measured at export:

{markdown_table(differences, ("format", "difference", "tolerance"))}

## Signatures

{_signatures(source)}

The class names, one per line, are in `assets/labels.txt`.

## Export command

```
{_command(config)}
```

{", ".join(f"{name} {found[name]}" for name in PACKAGES if name in found)}
"""
    (folder / CARD_FILE).write_text(text + _run_flags(source))


def _origin(source: Exported) -> str:
    if source.record:
        return f"`{source.record.name}`: {' or '.join(f'`{file.name}`, {file.checksum}' for file in source.record.files)}"
    if source.file is None:
        return "unknown"
    digest = hashlib.sha256(source.file.read_bytes()).hexdigest()
    return f"`{source.file.name}`{', trained by this package' if source.run else ''}, sha256 `{digest}`"


def _preprocessing(config: ExportConfig, source: Exported) -> str:
    if source.stride:
        resized = f"longer side resized to {source.size} pixels (bicubic)" if source.size else "no resizing"
    else:
        resized = f"shorter side resized to {source.size} pixels ({config.interpolation}, as PIL), centre crop"
    if source.takes_pixels:
        layers = f", by its own {', '.join(source.inside)}" if source.inside else ""
        return f"{resized}; RGB values 0..255 unchanged: the model normalises its inputs itself{layers}; inside the graph"
    again = f"; then the model's own {', '.join(source.inside)}" if source.inside else ""
    return f"{resized}; RGB / 255, minus {MEAN}, divided by {STD}{again}; inside the graph"


def _measured(source: Exported) -> str:
    results = source.run.results() if source.run else []
    if source.record and source.record.results:
        stated = [(str(result), result.source) for result in source.record.results]
        return f"Stated for these weights, not measured at export:\n\n{markdown_table(stated, ('result', 'source'))}"
    if not results:
        return "No accuracy was measured with these weights at export."
    return f"Measured by the training run, with the network before export:\n\n{markdown_table(results, ('final model', ''))}"


def _signatures(source: Exported) -> str:
    top, pixels = "classes, best first; `valid` is false for an image that cannot be decoded", "values 0..255, RGB"
    if source.stride:
        rows = [
            (
                "serving_default",
                "`image_bytes`: strings (n,), JPEG or PNG of any size",
                "`label_maps`: uint8 (n, H, W), padded with 255",
            ),
            ("", "", "`scores`: float32 (n, H, W), probability of that class"),
            ("", "", "`sizes`: int32 (n, 2), height and width; `valid`: bool (n,), false for an image that cannot be decoded"),
            ("tensor", f"`images`: float32 (n, H, W, 3), {pixels}", "`probabilities`: float32 (n, H, W, classes)"),
        ]
    else:
        side = source.size
        rows = [
            ("serving_default", "`image_bytes`: strings (n,), JPEG or PNG of any size", "`classes`: strings (n, k)"),
            ("", "", f"`indices`: int32 (n, k); `probabilities`: float32 (n, k); `valid`: bool (n,). k {top}"),
            ("tensor", f"`images`: float32 (n, {side}, {side}, 3), {pixels}", "`probabilities`: float32 (n, classes)"),
            ("features", "the same", "`features`: float32 (n, channels), the inputs of the classifier"),
        ]
    return markdown_table(rows, ("signature", "inputs", "outputs"))


def _command(config: ExportConfig) -> str:
    given = [flag for flag in given_flags(config) if not flag.startswith("--overwrite")]
    return shlex.join(["keras-widerresnet", "export", *given])


def _run_flags(source: Exported) -> str:
    return f"\nFlags of the training run:\n\n```\n{source.run.flags_text}\n```\n" if source.run else ""
