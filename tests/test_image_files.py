"""Image files that are not what they seem: other formats, damage, too many pixels, sides of odd proportions, EXIF orientation, CMYK."""

import io
import logging
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from keras_widerresnet.cli import main
from keras_widerresnet.data import exif, images
from keras_widerresnet.data.exif import orientation
from keras_widerresnet.data.limits import MAX_PIXELS
from keras_widerresnet.data.problems import unreadable_files
from keras_widerresnet.data.resize import test_view as seen_view
from keras_widerresnet.data.sources.folder import folder
from keras_widerresnet.errors import InputError
from keras_widerresnet.export.graphs import ClassifierGraph, SegmenterGraph
from keras_widerresnet.fcn import WideResNetFCN
from keras_widerresnet.networks import WiderResNet
from keras_widerresnet.tasks.classification.data import load_data
from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), np.uint8)
DIGITS = str(pathlib.Path(__file__).parents[1] / "saved_models" / "digits" / "1")
ORIENTATIONS = range(1, 9)


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def picture(kind="JPEG", mode="RGB", **options):
    return encoded(Image.fromarray(PIXELS).convert(mode), kind, **options)


def blank(width, height, mode="1", kind="PNG"):
    return encoded(Image.new(mode, (width, height)), kind)


def with_exif(tag, kind="JPEG", endian="<", pixels=PIXELS):
    tags = Image.Exif()
    tags.endian = endian
    tags[0x010F] = "the maker"  # comes first
    tags[0x0112] = tag
    return encoded(Image.fromarray(pixels), kind, exif=tags)


def header_of_png(width, height):
    """The start of a PNG file that claims to be of any size."""
    return images.PNG_SIGNATURE + (13).to_bytes(4, "big") + b"IHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes(17)


# What cannot be used, and what is said of it.
REFUSED = {
    "webp": (picture("WEBP"), "is an image in WEBP format, not JPEG or PNG"),
    "gif": (picture("GIF"), "is an image in GIF format, not JPEG or PNG"),
    "bmp": (picture("BMP"), "is an image in BMP format, not JPEG or PNG"),
    "tiff": (picture("TIFF"), "is an image in TIFF format, not JPEG or PNG"),
    "jpeg2000": (picture("JPEG2000"), "is an image in JPEG2000 format, not JPEG or PNG"),
    "empty": (b"", "is empty"),
    "text": (b"<!DOCTYPE html><html></html>", "is in an unknown format (it begins with b'<!DOCTYP'), not JPEG or PNG"),
    "signature": (images.PNG_SIGNATURE, "cannot be decoded (the bytes are neither JPEG nor PNG)"),
    "cut-jpeg": (picture()[:500], "cannot be decoded (Invalid JPEG data"),
    "cut-png": (picture("PNG")[:500], "cannot be decoded (Invalid PNG data"),
    "long": (blank(100_000, 1), "has 100000×1 pixels: one side is more than 200 times the other"),
    "tall": (blank(3, 700), "has 3×700 pixels: one side is more than 200 times the other"),
    "many": (header_of_png(23_000, 23_000), "has 23000×23000 pixels, more than 89,478,485: --max_pixels=529000000 accepts it"),
    "most": (header_of_png(2**32 - 1, 2**32 - 1), "cannot be decoded"),
    "none": (header_of_png(0, 10), "cannot be decoded"),
}
# What can, though it is not as usual: the first picture of several, palettes, alpha, 1 and 16 bits.
TAKEN = {
    "animated-png": encoded(Image.fromarray(PIXELS), "PNG", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "two-pictures": encoded(Image.fromarray(PIXELS), "MPO", save_all=True, append_images=[Image.fromarray(255 - PIXELS)]),
    "palette": picture("PNG", "P"),
    "grey-with-alpha": picture("PNG", "LA"),
    "bilevel": picture("PNG", "1"),
    "progressive": picture(progressive=True),
    "cmyk": picture(mode="CMYK"),
    "one-pixel": blank(1, 1),
    "thin": blank(1, 200, "L"),
}


@pytest.fixture(scope="module")
def classifier_graph(tmp_path_factory):
    labels = tmp_path_factory.mktemp("labels") / "labels.txt"
    labels.write_text("cat\ndog\nowl\n")
    model = WiderResNet("16-0-1-1-1-0-0-0", width=0.0625, input_shape=(16, 16, 3), classes=3)
    return ClassifierGraph(model, 16, "bicubic", labels, 3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_told(name):
    content, told = REFUSED[name]
    assert images.image_problem(content).startswith(told)
    with pytest.raises(tf.errors.InvalidArgumentError):
        images.decode_rgb(images.checked(tf.constant(content)))


@pytest.mark.parametrize("name", TAKEN)
def test_first_pictures_of_all_kinds_of_files_are_taken(name):
    content = TAKEN[name]
    assert not images.image_problem(content)
    decoded = images.decode_rgb(images.checked(tf.constant(content))).numpy()
    with Image.open(io.BytesIO(content)) as image:
        expected = np.asarray(image.convert("RGB"))
    assert decoded.shape == expected.shape
    if name == "cmyk":  # PIL's conversion to RGB differs
        return
    np.testing.assert_array_equal(decoded, expected)


def test_channels_are_told():
    for mode, kind, told in (
        ("CMYK", "JPEG", "CMYK"),
        ("L", "JPEG", "grey"),
        ("RGBA", "PNG", "RGB with alpha"),
        ("LA", "PNG", "grey with"),
    ):
        content = picture(kind, mode)
        assert images.image_problem(content, convert_rgb=False).startswith(f"is not RGB but {told}")
        assert not images.has_three_channels(tf.constant(content))
    for kind, mode in (("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "P")):
        assert not images.image_problem(picture(kind, mode), convert_rgb=False)


def test_limits_are_those_of_the_header():
    content = blank(300, 200)
    assert not images.image_problem(content, max_pixels=60_000)
    assert images.image_problem(content, max_pixels=59_999) == "has 300×200 pixels, more than 59,999: --max_pixels=60000 accepts it"
    # Nothing after the header is needed.
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than"):
        images.checked(tf.constant(header_of_png(9_500, 9_500)))
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("endian", "<>")
def test_orientation_is_applied_as_pil_does(kind, endian):
    decode = tf.function(images.decode_rgb, input_signature=[tf.TensorSpec((), tf.string)])
    smooth = np.kron(PIXELS[:6, :9], np.ones((8, 8, 1), np.uint8))
    cut = tf.function(
        lambda raw: images.decode_window(raw, lambda size: tf.stack([8, 16, 24, size[1] - 24])),
        input_signature=[tf.TensorSpec((), tf.string)],
    )
    for tag in (0, *ORIENTATIONS, 9, 300):
        content = with_exif(tag, kind, endian, smooth)
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(decode(tf.constant(content)), expected)
        assert int(orientation(tf.constant(content))) == (tag if tag in ORIENTATIONS else 1)
        window = np.asarray(cut(tf.constant(content)), int)
        # At a window's edge chroma is interpolated from fewer neighbours.
        inner = np.abs(window - expected[8:32, 16 : expected.shape[1] - 8])[2:-2, 2:-2]
        assert inner.max() <= (0 if kind == "PNG" else 6)


def test_pipelines_share_one_trace_of_exif():
    """A trace takes a tenth of a second, and a run of training makes a dozen pipelines."""
    traces = []
    for _ in range(2):
        dataset = tf.data.Dataset.from_tensors(with_exif(6)).map(images.decode_rgb)
        assert dataset.get_single_element().shape == (36, 24, 3)
        traces.append(exif._of_exif.experimental_get_tracing_count())
    assert traces[0] == traces[1] > 0


def test_damaged_exif_data_turn_nothing():
    content = with_exif(6)
    start = content.index(b"Exif\0\0") + 6
    for offset, value in ((0, b"XX"), (4, b"\xff\xff\xff\xff"), (4, b"\0\0\xff\xff"), (8, b"\xff\xff"), (8, b"\0\0")):
        damaged = content[: start + offset] + value + content[start + offset + len(value) :]
        turn = int(orientation(tf.constant(damaged)))
        assert turn in (1, 6) and images.decode_rgb(tf.constant(damaged)).shape[-1] == 3
    assert int(orientation(tf.constant(content[: start + 10]))) == 1


@pytest.mark.parametrize("shape", [(2000, 11), (9, 640), (1, 150), (40, 40), (16, 31), (375, 500), (31, 16)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
def test_view_is_the_crop_of_what_pil_resizes(shape, interpolation):
    """Also where the whole resized image would be many times what is kept."""
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for size in (16, 45):
        scaled = [(2 * size * side + min(shape)) // (2 * min(shape)) for side in shape]
        resized = np.asarray(Image.fromarray(image).resize(scaled[::-1], getattr(Image.Resampling, interpolation.upper())), int)
        top, left = ((side - size + 1) // 2 for side in scaled)
        differences = np.abs(seen_view(tf.constant(image), size, interpolation) - resized[top : top + size, left : left + size])
        assert differences.max() <= 2 and differences.mean() < 0.2


def write_classes(root, files, name="{}.jpg"):
    """Two classes of two good images each, and others in the first."""
    for label in ("cat", "dog"):
        (root / label).mkdir(parents=True)
        for number in range(4):
            Image.fromarray(np.roll(PIXELS, number, axis=1)).save(root / label / f"good{number}.png")
    for number, content in files.items():
        (root / "cat" / name.format(number)).write_bytes(content)
    return root


def test_what_is_verified_trains(tmp_path, caplog):
    """All refused and all taken kinds in one folder, under a JPEG's name."""
    files = {name: content for name, (content, _) in REFUSED.items()} | TAKEN
    root = write_classes(tmp_path / "set", files)
    with pytest.raises(InputError, match=rf"{len(REFUSED)} of {8 + len(files)} images cannot be used"):
        folder(str(root), convert_rgb=True)
    with caplog.at_level(logging.WARNING):
        data = folder(str(root), convert_rgb=True, skip_corrupt=True)
    assert f"Skipped {len(REFUSED)} of" in caplog.text
    seen = [seen_view(images.decode_rgb(raw), 16) for split in (data.train, data.test) for raw, _ in split.ordered()]
    assert len(seen) == 8 + len(TAKEN)
    # Not verified, it is named when it is reached.
    number, told = unreadable_files(folder(str(root), convert_rgb=True, verify=False))
    assert number == len(REFUSED) and "bmp.jpg is an image in BMP format" in told


def test_cmyk_needs_convert_rgb(tmp_path):
    root = str(write_classes(tmp_path / "set", {"cmyk": TAKEN["cmyk"]}))
    with pytest.raises(InputError, match=r"cmyk.jpg is not RGB but CMYK \(--convert_rgb converts it\)"):
        folder(root)
    assert folder(root, convert_rgb=True).train.size + folder(root, convert_rgb=True).test.size == 9


@pytest.mark.parametrize("verifies", [True, False])
def test_training_names_the_file(tmp_path, capsys, verifies):
    root = write_classes(tmp_path / "set", {"holiday": REFUSED["webp"][0]})
    arguments = f"train --data=folder:{root} --structure=16-0-1-1-1-0-0-0 --width=0.0625 --epochs=1 --batch_size=4 --validation=none "
    with pytest.raises(SystemExit) as error:
        main([*arguments.split(), f"--output_dir={tmp_path / 'run'}", f"--{'' if verifies else 'no'}verify_images"])
    assert error.value.code == 2
    assert "holiday.jpg is an image in WEBP format, not JPEG or PNG" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["webp", "text", "many", "long", "cut-png"])
def test_predict_names_the_file(tmp_path, capsys, name):
    (tmp_path / "photograph.jpg").write_bytes(REFUSED[name][0])
    with pytest.raises(SystemExit) as error:
        main(["predict", str(tmp_path / "photograph.jpg"), f"--weights={DIGITS}"])
    assert error.value.code == 2
    assert f"photograph.jpg' {REFUSED[name][1]}" in capsys.readouterr().err


def test_predict_takes_more_pixels_when_told(tmp_path, capsys):
    (tmp_path / "page.png").write_bytes(blank(300, 200))
    arguments = ["predict", str(tmp_path / "page.png"), f"--weights={DIGITS}"]
    with pytest.raises(SystemExit):
        main([*arguments, "--max_pixels=1000"])
    assert "--max_pixels=60000 accepts it" in capsys.readouterr().err
    main([*arguments, "--max_pixels=60000"])
    assert "page.png" in capsys.readouterr().out


def test_records_that_cannot_be_used_are_named(tmp_path, capsys):
    """Of TFRecord files the record's number is told."""
    from keras_widerresnet.data.sources import tfrecord

    for part, contents in (("train", [picture(), REFUSED["webp"][0], picture("PNG"), REFUSED["long"][0]]), ("validation", [picture()])):
        with tf.io.TFRecordWriter(str(tmp_path / f"{part}-00000-of-00001")) as writer:
            for label, content in enumerate(contents):
                writer.write(tfrecord._record(content, label % 2))
    number, told = unreadable_files(load_data(f"tfrecord:{tmp_path}"))
    assert number == 2
    assert "train-00000-of-00001, record 1 is an image in WEBP format" in told and "record 3 has 100000×1 pixels" in told
    arguments = f"--data=tfrecord:{tmp_path} --structure=16-0-1-1-1-0-0-0 --width=0.0625 --epochs=1 --batch_size=4 --crop_size=16"
    with pytest.raises(SystemExit) as error:
        main(["train", *arguments.split(), "--validation=none", f"--output_dir={tmp_path / 'run'}"])
    assert error.value.code == 2 and "record 1 is an image in WEBP format" in capsys.readouterr().err


@pytest.mark.parametrize("tag", [3, 6])
def test_masks_are_of_upright_images(tmp_path, caplog, tag):
    """An image that EXIF turns, and a mask as it is seen; a mask as the image is stored is refused where its size tells."""
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(with_exif(tag, "PNG")))))
    for part in ("train", "test"):
        for kind in (part, f"{part}annot"):
            (tmp_path / kind).mkdir()
        (tmp_path / part / "a.png").write_bytes(with_exif(tag, "PNG"))
        Image.fromarray((upright[..., 0] > 128).astype(np.uint8)).save(tmp_path / f"{part}annot" / "a.png")
    with caplog.at_level(logging.WARNING):
        data = load_segmentation_data(f"pairs:{tmp_path},classes=2")
    assert "2 images are turned upright by their EXIF data" in caplog.text
    image, mask = data.train.image(0), data.train.mask(0)
    np.testing.assert_array_equal(image[..., 0] > 128, mask == 1)
    if tag == 6:
        Image.fromarray(PIXELS[..., 0] // 255).save(tmp_path / "trainannot" / "a.png")
        with pytest.raises(InputError, match=r"a.png has 36×24 pixels, its image a.png 24×36 upright \(EXIF orientation 6"):
            load_segmentation_data(f"pairs:{tmp_path},classes=2")


def test_served_rows_are_flagged(classifier_graph):
    """A batch of everything: what cannot be used is a row of its own, and changes no other."""
    rows = [(content, False) for content, _ in REFUSED.values()] + [(content, True) for content in TAKEN.values()]
    order = np.random.default_rng(2).permutation(len(rows))
    contents, valid = zip(*(rows[index] for index in order), strict=True)
    answers = classifier_graph.endpoints["serving_default"](tf.constant(contents))
    np.testing.assert_array_equal(answers["valid"], valid)
    assert set(np.unique(answers["indices"].numpy()[~np.array(valid)])) == {-1}
    for index, content in enumerate(contents):
        if valid[index]:
            alone = classifier_graph.endpoints["serving_default"](tf.constant([content]))["probabilities"][0]
            np.testing.assert_allclose(answers["probabilities"][index], alone, atol=1e-6)


def test_padded_batches_of_segmentation_are_bounded(tmp_path):
    """An image with which the padded batch would have too many pixels is a flagged row; those before and after it are answered."""
    (tmp_path / "labels.txt").write_text("a\nb\n")
    model = WideResNetFCN("16-0-1-1-1-0-0-0", 2, 1, None, width=0.0625, downsampling="stride")
    graph = SegmenterGraph(keras.Model(model.inputs, model.output), 8, 0, tmp_path / "labels.txt", max_pixels=6 * 40 * 60)
    small = [encoded(Image.fromarray(np.roll(PIXELS, shift, axis=0)), "PNG") for shift in range(3)]
    contents = [small[0], blank(60, 40), REFUSED["gif"][0], blank(90, 20), small[1], small[2]]
    answers = graph.endpoints["serving_default"](tf.constant(contents))
    np.testing.assert_array_equal(answers["valid"], [True, True, False, False, True, True])
    assert answers["label_maps"].shape == (6, 40, 60)
    np.testing.assert_array_equal(answers["sizes"], [(24, 36), (40, 60), (0, 0), (0, 0), (24, 36), (24, 36)])
    alone = graph.endpoints["serving_default"](tf.constant(contents[4:5]))
    np.testing.assert_allclose(answers["scores"][4, :24, :36], alone["scores"][0], atol=1e-5)
