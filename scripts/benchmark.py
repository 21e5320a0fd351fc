"""Speed and memory, as ratios in one run: `python scripts/benchmark.py inference|training|memory|input|...`, see docs/performance.md."""

import dataclasses
import logging
import os
import pathlib
import tempfile

import command_line
from absl import flags

PIXELS = (375, 500)
COMPARISONS = {"inference": "A", "training": "D", "memory": "A"}  # and the network of each
KINDS = (*COMPARISONS, "input", "scaling", "startup", "exports", "decomposition")
BACKENDS = ["all", "tensorflow", "jax", "torch"]

flags.DEFINE_string("structure", "", "A, A1 ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7; default A, for training D.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.", lower_bound=0.01)
flags.DEFINE_integer("size", 0, "Side of the images in pixels; 0 for the structure's S.", lower_bound=0)
flags.DEFINE_list("batch_sizes", [], "Images at a time; default 1,8 for inference, else 8.")
flags.DEFINE_integer("passes", 2, "Times that every contender is started anew.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Timed calls in each pass; medians are reported.", lower_bound=1)
flags.DEFINE_integer("threads", 0, "Of the CPU, for every contender; 0 for all.", lower_bound=0)
flags.DEFINE_enum("backend", "all", BACKENDS, "inference, training, memory: Keras' backend of ours; the first of them is compared with.")
flags.DEFINE_string("only", "", "inference, training, memory: only contenders whose name contains one of these, joined by |.")
flags.DEFINE_bool("tried", False, "inference, training: our own settings, one change at a time, in place of the contenders.")
flags.DEFINE_float("seconds", 5.0, "input: length of each measurement.", lower_bound=0.1)
flags.DEFINE_string("output_dir", "", "Folder for the table (CSV), the picture and what machine it was; none if empty.")
flags.DEFINE_bool("overwrite", False, "Replace what an earlier run left in --output_dir.")


def main(arguments):
    from keras_widerresnet.errors import InputError

    kind, *files = arguments
    if kind not in KINDS or (files and kind != "input"):
        raise InputError(f"What to measure is one of {', '.join(KINDS)}; JPEG files go with input. Received: {' '.join(arguments)!r}")
    if flags.FLAGS.backend != "all":
        os.environ["KERAS_BACKEND"] = flags.FLAGS.backend  # where there may be no other
    logging.getLogger("keras_widerresnet").setLevel(logging.INFO)
    from keras_widerresnet.benchmark import threads

    output, used, rates = _output_dir(kind), threads.take(flags.FLAGS.threads), None
    if kind in COMPARISONS:
        rows, rates = _comparison(kind, used, output)
    else:
        measures = {"input": _input, "scaling": _scaling, "startup": _startup, "exports": _exports, "decomposition": _decomposition}
        rows = measures[kind](files, used, output)
    _finish(kind, rows, rates, used, output)


def _output_dir(kind):
    from keras_widerresnet.errors import InputError

    if not flags.FLAGS.output_dir:
        return None
    output = pathlib.Path(flags.FLAGS.output_dir)
    if (output / f"{kind}.csv").exists() and not flags.FLAGS.overwrite:
        raise InputError(f"{output / kind}.csv exists: --overwrite replaces it, --output_dir names another folder")
    output.mkdir(parents=True, exist_ok=True)
    return output


def _finish(kind, rows, rates, threads, output):
    from keras_widerresnet.benchmark import report

    if output:
        report.write_csv(rows, output / f"{kind}.csv")
        report.write_machine(output / f"{kind}_machine.json", rates, threads)
    print(report.as_text(rows))
    if rates:
        products = ", ".join(f"{rate / 1e9:.0f} G multiply-adds/s in {precision}" for precision, rate in rates.multiply_adds.items())
        print(f"\nMeasured rates: {products}; {rates.bytes / 1e9:.1f} GB/s copied")


def _comparison(kind, threads, output):
    from keras_widerresnet.benchmark.comparison import Comparison, compare

    comparison = Comparison(
        kind,
        structure=flags.FLAGS.structure or COMPARISONS[kind],
        width=flags.FLAGS.width,
        size=flags.FLAGS.size,
        batch_sizes=tuple(command_line.whole_numbers("batch_sizes", "images")) or ((1, 8) if kind == "inference" else (8,)),
        threads=threads,
        backend=flags.FLAGS.backend,
        only=tuple(filter(None, flags.FLAGS.only.split("|"))),
        tried=flags.FLAGS.tried,
        passes=flags.FLAGS.passes,
        repeats=flags.FLAGS.repeats,
    )
    return compare(comparison, output and output / f"{kind}.png")


def _scaling(_, threads, output):
    from keras_widerresnet.benchmark import report, scaling

    structure = flags.FLAGS.structure or "A"
    with tempfile.TemporaryDirectory() as folder:
        curves = scaling.growth(structure, threads, folder, flags.FLAGS.passes, flags.FLAGS.repeats)
    if output:
        base = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in scaling.BASE.items())
        report.growth_curves(curves, f"Model {structure} on {threads} CPU threads; where not varied: {base}", output / "scaling.png")
    return report.growth_rows(curves)


def _input(files, *_):
    from keras_widerresnet.benchmark.input import input_speeds
    from keras_widerresnet.data.photographs import sample_jpegs
    from keras_widerresnet.errors import InputError

    missing = [file for file in files if not pathlib.Path(file).is_file()]
    if missing:
        raise InputError(f"No file at {missing[0]!r}")
    encoded = [pathlib.Path(file).read_bytes() for file in files] or sample_jpegs(*PIXELS)
    return input_speeds(encoded, flags.FLAGS.repeats, flags.FLAGS.seconds)


def _startup(*_):
    from keras_widerresnet.benchmark.startup import BOUNDS, startup_seconds

    found = startup_seconds(flags.FLAGS.structure or "A", flags.FLAGS.repeats)
    return [{"what": what, "seconds": seconds, "bound": BOUNDS.get(what, "")} for what, seconds in found.items()]


def _exports(_, threads, __):
    from keras_widerresnet.benchmark.exports import export_forms
    from keras_widerresnet.benchmark.workload import Workload, prepare
    from keras_widerresnet.structures import find_structure

    structure = flags.FLAGS.structure or "A1"
    with tempfile.TemporaryDirectory() as folder:
        workload = Workload(structure, flags.FLAGS.width, flags.FLAGS.size or find_structure(structure).crop_size, 1, threads, folder)
        prepare(workload, set())
        forms = export_forms(workload, flags.FLAGS.repeats)
    return [{**dataclasses.asdict(form), "time_of_the_firsts": form.milliseconds / forms[0].milliseconds} for form in forms]


def _decomposition(*_):
    from keras_widerresnet.benchmark.decomposition import decomposition_cost

    options = {"structure": flags.FLAGS.structure or "A", "width": flags.FLAGS.width}
    batch_sizes = command_line.whole_numbers("batch_sizes", "images") or [8]
    rows = ({**options, "batch_size": batch_size} for batch_size in batch_sizes)
    return [{**row, **decomposition_cost(**row, repeats=flags.FLAGS.repeats)} for row in rows]


if __name__ == "__main__":
    command_line.run(main, arguments=f"of: {', '.join(KINDS)}")
