"""ImageNet through TFDS, from tar files of the official layout with few synsets, offline."""

import csv
import io
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from photographs import PHOTOGRAPHS
from PIL import Image
from test_training import ENVIRONMENT, ROOT, command

from keras_widerresnet.data import images
from keras_widerresnet.data.sources.tfds import tfds_images
from keras_widerresnet.imagenet import imagenet_classes

SYNSETS = ("n01440764", "n02105855", "n03125729")
TRAIN_IMAGES, VALIDATION_IMAGES = 12, 16
CMYK_NAME = "n03018349_4028.JPEG"  # one of the CMYK files that TFDS knows by name, put into another synset here


def jpeg(index, mode="RGB"):
    top, left = 5 * (index % 40), 7 * (index % 60)
    tile = Image.fromarray(PHOTOGRAPHS[index % 2][top : top + 70, left : left + 90]).convert(mode)
    buffer = io.BytesIO()
    tile.save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """TFDS' data directory with both tar files where TFDS wants them; file name -> bytes beside it."""
    root = tmp_path_factory.mktemp("tfds")
    manual = root / "downloads" / "manual"
    manual.mkdir(parents=True)
    written = {}
    with tarfile.open(manual / "ILSVRC2012_img_train.tar", "w") as train:
        for number, synset in enumerate(SYNSETS):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for index in range(TRAIN_IMAGES):
                    name = f"{synset}_{index}.JPEG"
                    written[name] = jpeg(100 * number + index)
                    add(tar, name, written[name])
                if number == 2:
                    written[CMYK_NAME] = jpeg(777, "CMYK")
                    add(tar, CMYK_NAME, written[CMYK_NAME])
            add(train, f"{synset}.tar", inner.getvalue())
    with tarfile.open(manual / "ILSVRC2012_img_val.tar", "w") as validation:
        for index in range(1, VALIDATION_IMAGES + 1):
            name = f"ILSVRC2012_val_{index:08d}.JPEG"
            written[name] = jpeg(1000 + index)
            add(validation, name, written[name])
    return root, written


def run(script, *flags, tfds_dir):
    environment = {**ENVIRONMENT, "TFDS_DATA_DIR": str(tfds_dir), "NO_GCE_CHECK": "true"}
    return subprocess.run([sys.executable, str(ROOT / "scripts" / script), *flags], env=environment, capture_output=True, text=True)


def test_from_tar_files_to_a_report(tfds_dir, tmp_path):
    """`download_and_prepare`, an epoch with the release's augmentation, the evaluation of what was trained; then what the data are."""
    root, written = tfds_dir
    network = ("--structure=28-0-1-1-1-1-1-1", "--width=0.0625", "--crop_size=32", "--batch_size=16", "--epochs=1")
    _, *arguments = command(tmp_path / "run", "--data=tfds:imagenet2012", *network)
    done = run("train.py", *arguments[1:], tfds_dir=root)
    assert done.returncode == 0, done.stderr[-3000:]
    held_out = (3 * TRAIN_IMAGES + 1) // 10  # TFDS writes so few images into one file
    assert f"{3 * TRAIN_IMAGES + 1 - held_out} training and {VALIDATION_IMAGES} test images" in done.stderr

    flags = (
        f"--weights={tmp_path / 'run' / 'final.keras'}",
        "--data=tfds:imagenet2012",
        "--scales=32",
        f"--output_dir={tmp_path / 'evaluated'}",
    )
    evaluated = run("evaluate.py", *flags, tfds_dir=root)
    assert evaluated.returncode == 0, evaluated.stderr[-3000:]
    with open(tmp_path / "evaluated" / "predictions.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == VALIDATION_IMAGES

    data = tfds_images("imagenet2012", data_dir=str(root))
    synsets = [synset for synset, _ in imagenet_classes()]
    counts = {synsets[label]: count for label, count in enumerate(np.bincount(data.train.labels)) if count}
    assert counts == {SYNSETS[0]: TRAIN_IMAGES, SYNSETS[1]: TRAIN_IMAGES, SYNSETS[2]: TRAIN_IMAGES + 1}
    pixels = {np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).tobytes() for content in written.values()}
    close = 0
    for split in (data.train, data.test):
        for raw, _ in split.ordered():
            decoded = np.asarray(images.decode_rgb(raw))
            assert decoded.shape == (70, 90, 3)
            close += decoded.tobytes() in pixels
    assert close == 3 * TRAIN_IMAGES + VALIDATION_IMAGES  # all but the CMYK one, which TFDS encodes anew
    cmyk = np.asarray(Image.open(io.BytesIO(written[CMYK_NAME])).convert("RGB"), int)
    nearest = min(np.abs(np.asarray(images.decode_rgb(raw), int) - cmyk).mean() for raw, _ in data.train.ordered())
    assert nearest < 6
    assert tf.io.is_jpeg(next(iter(data.train.ordered()))[0])


def test_missing_tar_files_are_asked_for(tmp_path):
    flags = ("--data=tfds:imagenet2012", f"--output_dir={tmp_path / 'run'}")
    result = run("train.py", *flags, tfds_dir=tmp_path / "empty")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    line = next(line for line in result.stderr.splitlines() if line.startswith("train.py: "))
    assert str(tmp_path / "empty" / "downloads" / "manual") in line
