"""Converts original weights: `python scripts/convert_weights.py --source=FILE --model=A1 --output=a1.weights.h5 --verify`."""

import pathlib

import command_line
from absl import flags

flags.DEFINE_string(
    "source", None, "Official .params file, PyTorch state dict (psa or InPlace-ABN names) or resnet38d-tf .h5.", required=True
)
flags.DEFINE_string(
    "model", None, "A, A1, A2 ... or a structure; or a name such as imagenet-a1: the checksum must then be that file's.", required=True
)
flags.DEFINE_string("output", "", "The .weights.h5 file to write; empty, with a name as --model, for the cache.")
flags.DEFINE_float("width", 1.0, "Factor for the channels of all stages.")
flags.DEFINE_bool("verify", False, "Read both files again afterwards and compare every value.")
flags.DEFINE_bool("overwrite", False, "Replace an existing output.")


def main():
    from keras_widerresnet.weights.find import convert_to

    options = {name: flags.FLAGS[name].value for name in ("source", "model", "output", "width", "verify", "overwrite")}
    output, values = convert_to(**{**options, "output": pathlib.Path(options["output"]) if options["output"] else None})
    print(f"{values:,} parameters and statistics in {output}" + (", all equal to the source's" if options["verify"] else ""))


if __name__ == "__main__":
    command_line.run(main)
