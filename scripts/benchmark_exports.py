"""Sizes and speeds of all exported forms of a network with random weights: `python scripts/benchmark_exports.py --structure=A1`."""

import command_line
from absl import flags

flags.DEFINE_string("structure", "A1", "A, A1, A2, B ... F, or the notation S-n1-n2-n3-n4-n5-n6-n7.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_integer("size", 0, "Side of the images in pixels; 0 for the structure's S.", lower_bound=0)
flags.DEFINE_integer("repeats", 10, "Rounds; medians are reported.", lower_bound=1)
flags.DEFINE_integer("threads", 2, "Of TFLite.", lower_bound=1)
flags.DEFINE_integer("settling", 30, "Passes by which batch-norm statistics get to those of the images.", lower_bound=0)


def main():
    import keras
    from tabulate import tabulate

    from keras_widerresnet import WiderResNet
    from keras_widerresnet.data.pipeline import normalise
    from keras_widerresnet.export import onnx, verify
    from keras_widerresnet.export.benchmark import export_forms
    from keras_widerresnet.structures import find_structure

    onnx.check_installed()
    keras.utils.set_random_seed(0)
    structure = find_structure(flags.FLAGS.structure)
    size = flags.FLAGS.size or structure.crop_size
    model = WiderResNet(structure, width=flags.FLAGS.width, input_shape=(None, None, 3))
    shown = normalise(verify.views(verify.real_images("")[0], size // 2, "bicubic"))  # a quarter of the time
    for _ in range(flags.FLAGS.settling):  # activations of untrained statistics grow until every probability is 0 or 1
        model(shown, training=True)
    forms = export_forms(model, size, flags.FLAGS.repeats, flags.FLAGS.threads)
    slowest = forms[0].milliseconds
    rows = [
        (
            form.name,
            f"{form.megabytes:.1f}",
            form.operations or "–",
            f"{form.milliseconds:.0f}",
            f"{form.milliseconds / slowest:.2f}",
            f"{form.difference:.0e}",
        )
        for form in forms
    ]
    headers = ("form", "MB", "operations", "ms an image", "of the first's", "difference from Keras")
    print(tabulate(rows, headers, "github", disable_numparse=True))


if __name__ == "__main__":
    command_line.run(main)
