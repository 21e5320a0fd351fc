"""Pictures: colours that are told apart with and without red and green, and what each picture shows."""

import ast
import itertools
import json
import pathlib
import re

import matplotlib
import matplotlib.figure
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from benchmarks import report
from benchmarks.scaling import Growth
from keras_widerresnet import colors, reporting
from keras_widerresnet.label_maps import LABEL_MAPS, numbered
from keras_widerresnet.tasks.classification import figures
from keras_widerresnet.tasks.segmentation import figures as segmentation_figures
from research import figures as research_figures
from research.cells import Cell

ROOT = pathlib.Path(__file__).parents[1]
# Of linear RGB, severity 1: Machado, Oliveira and Fernandes (2009), table 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}
CAMVID = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "cyclist")


def seen(rgb, vision):
    """RGB of 0..1 as somebody with that vision sees it."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    changed = np.clip(linear @ np.transpose(VISION[vision]), 0, 1)
    return np.where(changed <= 0.0031308, changed * 12.92, 1.055 * changed ** (1 / 2.4) - 0.055)


def least_difference(rgb):
    """CIEDE2000 between the two most similar colours, RGB of 0..1, in the vision in which they are most similar."""
    rgb = np.asarray(rgb, float)
    pairs = np.array(list(itertools.combinations(range(len(rgb)), 2))).T
    return min(deltaE_ciede2000(*(rgb2lab(seen(rgb, vision))[one] for one in pairs)).min() for vision in VISION)


def of_classes(names, share=1.0):
    """The colours of classes, also where they lie with this share over a grey image."""
    return share * np.array(colors.class_colors(names)) / 255 + (1 - share) * 0.5


def test_the_measure_sees_what_was_wrong():
    """VOC's colours from the second on, as overlays once had them: red and green are one colour to some, and all are near another."""
    once = np.array(LABEL_MAPS["voc"].colors[1:13]) / 255
    assert least_difference(once) < 5
    red_and_green, ours = ("tab:red", "tab:green"), (colors.BLUE, colors.VERMILLION)
    assert least_difference([to_rgb(color) for color in red_and_green]) < least_difference([to_rgb(color) for color in ours]) / 2


@pytest.mark.parametrize(("classes", "least"), [(2, 80), (3, 45), (4, 40), (5, 24), (8, 16), (11, 13), (12, 13), (21, 9.5), (150, 3)])
def test_classes_are_told_apart_whatever_the_vision(classes, least):
    names = [f"class {k}" for k in range(classes)]
    assert least_difference(of_classes(names)) > least
    if classes <= 12:
        assert least_difference(of_classes(names, segmentation_figures.OPACITY)) > 0.7 * least


def test_errors_and_background_are_no_class():
    apart = [*of_classes(CAMVID), np.array(colors.WRONG_COLOR) / 255]
    assert least_difference(apart) > 13
    assert least_difference(of_classes(("background", "disc", "square", "triangle", "ring"))) > 20
    assert least_difference(of_classes(("background", *CAMVID))) > 12
    assert colors.class_colors(("background", "a"))[1] == colors.class_colors(("a",))[0]
    assert len(set(colors.class_colors([""] * 254))) == 254


@pytest.mark.parametrize(
    ("shown", "least"),
    [
        (colors.LINES[:4], 20),
        (colors.LINES[:5], 17),
        (colors.LINES, 11),
        ((report.OURS, report.OTHERS, report.ANOTHER), 25),
        ((colors.BLUE, colors.VERMILLION), 40),
    ],
)
def test_lines_and_bars_are_told_apart_whatever_the_vision(shown, least):
    assert least_difference([to_rgb(color) for color in shown]) > least
    assert min(least_difference([to_rgb(color), (1, 1, 1)]) for color in shown) > 15


def test_no_picture_has_colors_of_its_own():
    """Matplotlib's default cycle, and colours written down in a module of pictures, are nowhere."""
    modules = [path for folder in ("keras_widerresnet", "benchmarks", "research") for path in (ROOT / folder).rglob("*.py")]
    drawing = [path for path in modules if "matplotlib" in path.read_text() and path.name != "colors.py"]
    assert len(drawing) >= 6
    for path in drawing:
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        words = [text for text in texts if isinstance(text, str)]
        assert not [word for word in words if re.match(r"(tab:|C\d$|(red|green|orange|lime|brown|magenta|gold)$)", word)], path
        saturated = [word for word in words if re.fullmatch(r"#[0-9a-f]{6}", word) and np.ptp(to_rgb(word)) > 0.4]
        assert not saturated, path


def test_masks_of_published_sets_keep_their_colors():
    assert LABEL_MAPS["voc"].colors[15] == (192, 128, 128) and LABEL_MAPS["cityscapes"].colors[0] == (128, 64, 128)
    assert numbered("", CAMVID).colors == colors.class_colors(CAMVID)


def drawn(monkeypatch, draw):
    """The figure that a function would save."""
    kept = []
    for module in (figures, segmentation_figures, report.reporting, research_figures):
        for name in ("save_figure", "save_vector_figure"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda figure, path: kept.append(figure))
    draw()
    (figure,) = kept
    return figure


def texts_of(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def confusion(monkeypatch, labels, predicted, names):
    return drawn(monkeypatch, lambda: figures.confusion_matrix(np.array(labels), np.array(predicted), names, pathlib.Path("unused")))


def test_zeros_of_a_confusion_matrix_are_silent_and_single_errors_are_seen(monkeypatch):
    labels, predicted = [0] * 5000 + [1] * 3000, [0] * 4999 + [1] + [1] * 3000
    axes = confusion(monkeypatch, labels, predicted, ("cat", "$dog")).axes[0]
    assert sorted(texts_of(axes)) == ["1", "3000", "4999"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "$dog"]
    picture = axes.images[0].get_array()
    assert (picture[1, 0] == 1).all()  # white
    assert least_difference([picture[0, 1], (1, 1, 1)]) > 10 and least_difference([picture[0, 1], picture[0, 0]]) > 20
    # More of the row is darker, for what is right as for what is wrong.
    shades = figures.cell_colors(np.array([[9, 1, 5], [0, 0, 7], [0, 0, 1]]))
    assert shades[0, 2].mean() < shades[0, 1].mean() and (shades[1, 0] == 1).all() and (shades[1, 1] == 1).all()


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_up_to_forty_classes_have_their_names_on_the_matrix(monkeypatch, classes):
    names = [f"a class with a rather long name {k}" for k in range(classes)]
    figure = confusion(monkeypatch, range(classes), [1, *range(1, classes)], names)
    axes = figure.axes[0]
    assert len(texts_of(axes)) == classes and len(axes.get_yticklabels()) == classes
    assert all(label.get_text().endswith(str(k)) and len(label.get_text()) <= 20 for k, label in enumerate(axes.get_yticklabels()))
    assert figure.get_size_inches().max() < 10 and min(label.get_fontsize() for label in axes.get_yticklabels()) >= 5


@pytest.mark.parametrize("classes", [41, 1000])
def test_of_many_classes_every_error_is_a_dot_and_the_frequent_ones_are_named(monkeypatch, classes):
    labels = np.arange(classes).repeat(3)
    predicted = labels.copy()
    predicted[[0, 3, 4]] = [7, 9, 9]
    matrix, listed = confusion(monkeypatch, labels, predicted, [f"name {k}" for k in range(classes)]).axes
    right, wrong = matrix.collections
    assert len(right.get_offsets()) == classes and wrong.get_offsets().tolist() == [[7, 0], [9, 1]]
    assert wrong.get_sizes().min() >= 5
    assert texts_of(listed) == ["2 × name 1 → name 9\n1 × name 0 → name 7"]


def metrics(epochs, score="accuracy"):
    falling = np.linspace(2, 0.3, epochs)
    names = ("loss", "val_loss", score, f"val_{score}", "learning_rate")
    return [dict(zip(("epoch", *names), (k, a, a, 1 - a / 2, 1 - a / 2, 0.1 * a), strict=True)) for k, a in enumerate(falling)]


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_curves_have_a_title_and_little_room_for_the_learning_rate(monkeypatch, epochs, tmp_path):
    save, path = reporting.save_figure, tmp_path / "curves.png"
    figure = drawn(monkeypatch, lambda: reporting.learning_curves(metrics(epochs), path, "validation", title="A $ on digits"))
    with matplotlib.rc_context(reporting.PLAIN_TEXT):
        save(figure, path)
    assert figure.get_suptitle() == "A $ on digits"
    widths = [axes.get_position().width for axes in figure.axes]
    assert widths[2] < 0.25 * sum(widths) and [axes.get_title() for axes in figure.axes][2] == "learning rate"
    for axes in figure.axes[:2]:
        one, two = axes.lines
        assert one.get_marker() != two.get_marker() and one.get_linestyle() != two.get_linestyle()
        numbers = [label.get_text() for label in axes.get_yticklabels()]
        assert not any("times" in number or "^" in number for number in numbers)


def test_lines_of_several_runs_differ_in_more_than_color_and_are_named_at_their_ends(monkeypatch):
    names = [f"kind-{k}" for k in range(14)]
    curves = {name: np.full((2, 5), 0.7) for name in names}
    (axes,) = drawn(monkeypatch, lambda: figures.accuracy_curves(curves, pathlib.Path("unused"))).axes
    looks = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == 14 and len({line.get_marker() for line in axes.lines[:6]}) == 6
    assert sorted(texts_of(axes)) == sorted(f"{name} (2 seeds)" for name in names)
    places = sorted(text.xyann[1] for text in axes.texts)
    assert np.diff(places).min() > 0.02 and places[0] >= 0


def test_names_beside_lines_are_moved_as_little_as_may_be():
    np.testing.assert_allclose(reporting.spread(np.array([0.1, 0.5, 0.9]), 0.1), [0.1, 0.5, 0.9])
    np.testing.assert_allclose(reporting.spread(np.array([0.5, 0.5]), 0.1), [0.45, 0.55])
    np.testing.assert_allclose(reporting.spread(np.array([0.2, 0.98, 1.0]), 0.1), [0.2, 0.9, 1.0])
    np.testing.assert_allclose(np.diff(reporting.spread(np.full(30, 0.5), 0.1)), 0.1)


def test_widths_of_a_study_stand_side_by_side(monkeypatch):
    cells = [Cell(w, w, n, 8, n * 10**6, 1, (0.4, 0.42), (3, 3), 2, 0.1) for w in (0.0625, 0.125, 0.25) for n in (3, 6, 12)]
    figure = drawn(monkeypatch, lambda: research_figures.study(cells, pathlib.Path("unused")))
    effective = figure.axes[2]
    lines = [container.lines[0] for container in effective.containers]
    xs = np.log2(np.array([line.get_xdata() for line in lines], float))
    assert np.diff(xs, axis=0).min() > 0.1 and len({line.get_marker() for line in lines}) == 3
    assert least_difference([to_rgb(line.get_color()) for line in lines]) > 17


def test_error_and_effective_depth_against_the_budget(monkeypatch):
    cells = [Cell(0.1, 0.1, n, 2 + 2 * n, 1, 1, (1 / e, 1 / e + 0.02), (n, n + 1), e, 0.1) for n in (3, 6, 12) for e in (6, 12)]
    figure = drawn(monkeypatch, lambda: research_figures.budgets(cells, pathlib.Path("unused")))
    error, effective = figure.axes
    for axes in (error, effective):
        assert [label.get_text() for label in axes.get_xticklabels()] == ["6", "12"] and axes.get_xscale() == "log"
        xs = np.log2(np.array([container.lines[0].get_xdata() for container in axes.containers], float))
        assert np.diff(xs, axis=0).min() > 0.05
    np.testing.assert_allclose(np.array(error.containers[0].lines[0].get_ydata(), float), [100 * (1 / 6 + 0.01), 100 * (1 / 12 + 0.01)])
    low, high = (np.array(cap.get_ydata(), float) for cap in error.containers[0].lines[1])
    np.testing.assert_allclose(high - low, 2 * 12.7062 * 1.0, rtol=1e-4)  # quantile of t with 1 degree of freedom, times 2 / 2 points
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"{2 + 2 * n} layers, {n} units" for n in (3, 6, 12)]


@pytest.mark.parametrize(("columns", "said", "shown"), [(report.PER_STEP, "s a step", "2.73"), (report.PER_IMAGE, "ms an image", "3")])
def test_bars_have_the_unit_of_their_table(monkeypatch, columns, said, shown):
    rows = [{"contender": name, "batch": 8, **dict(zip(columns, (2.73, 2.68, 2.99), strict=True)), "note": note} for name, note in
            (("ours", ""), ("theirs", ""), ("another", "another network"))]  # fmt: skip
    (axes,) = drawn(monkeypatch, lambda: report.bars(rows, {"ours"}, {("", 8): 2.05}, "A", pathlib.Path("unused"))).axes
    assert axes.get_xlabel().startswith(said) and [text.strip() for text in texts_of(axes)[:3]] == [shown] * 3
    assert [bar.get_width() for bar in axes.patches] == [2.73] * 3 and axes.lines[-1].get_xdata()[0] == 2.05
    assert [bar.get_hatch() or "" for bar in axes.patches] == ["", "", "//"]


def test_bars_have_a_panel_for_every_workload(monkeypatch):
    times = dict(zip(report.PER_STEP, (2.73, 2.68, 2.99), strict=True))
    rows = [{"workload": name, "contender": who, "batch": 8, **times, "note": ""} for name in ("a", "b") for who in ("ours", "theirs")]
    figure = drawn(monkeypatch, lambda: report.bars(rows, {"ours"}, {("a", 8): 1.0, ("b", 8): 2.0}, "A", pathlib.Path("unused")))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["a, batch 8", "b, batch 8"]
    assert [axes.lines[-1].get_xdata()[0] for axes in figure.axes] == [1.0, 2.0] and [len(axes.patches) for axes in figure.axes] == [2, 2]


def test_growth_has_markers(monkeypatch):
    curves = [Growth(task, "batch_size", (1, 2), (0.2, 0.4), (10, 20)) for task in ("inference", "training step")]
    (axes,) = drawn(monkeypatch, lambda: report.growth_curves(curves, "A", pathlib.Path("unused"))).axes
    assert {"o", "s"} <= {line.get_marker() for line in axes.lines}


def test_letters_are_readable_where_a_page_shows_the_picture(monkeypatch, tmp_path):
    """A page is some 850 pixels wide: the smallest letters are then 9 pixels high or more, capitals and all."""
    save = reporting.save_figure
    for index, draw in enumerate(
        [
            lambda: reporting.learning_curves(metrics(9), tmp_path / "a", "test", title="A"),
            lambda: figures.accuracy_curves({"a": np.full((2, 5), 0.7)}, tmp_path / "a"),
            lambda: figures.confusion_matrix(np.arange(10), np.arange(10), [str(k) for k in range(10)], tmp_path / "a"),
        ]
    ):
        figure = drawn(monkeypatch, draw)
        save(figure, tmp_path / f"{index}.png")
        with Image.open(tmp_path / f"{index}.png") as image:
            pixels = min(1.0, 850 / image.width) * reporting.DPI / 72
        sizes = [text.get_fontsize() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
        assert min(sizes) * pixels >= 9


def test_long_names_and_many_classes_fit_into_overlays(monkeypatch):
    labels = numbered("mine", tuple(f"a class whose name is long, number {k}" for k in range(30)))
    truth = (np.arange(60 * 80).reshape(60, 80) % 30).astype(np.uint8)
    example = segmentation_figures.Example("x" * 200, np.zeros((60, 80, 3), np.uint8), truth, truth)
    figure = drawn(monkeypatch, lambda: segmentation_figures.overlays([example], labels, pathlib.Path("unused")))
    assert figure.get_size_inches()[0] == reporting.WIDTH
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(names) == 31 and max(map(len, names)) <= 20 and names[-1] == "wrong"
    assert len(figure.axes[0].get_title(loc="left")) <= 62


def test_captions_of_the_worst_mistakes(tmp_path, monkeypatch):
    from keras_widerresnet.tasks.classification import report as classification_report

    class Data:
        class_names = ("2", "a name that is longer than there is room")

        class test:
            @staticmethod
            def image(index):
                return np.zeros((8, 8, 3), np.uint8)

    found = []
    monkeypatch.setattr(classification_report, "shown_image", lambda image, size: image)
    monkeypatch.setattr(figures, "mistakes_grid", lambda images, captions, path: found.extend(captions))
    probabilities = np.array([[0.018, 0.982]])
    classification_report._write_mistakes(tmp_path / "a.png", Data, 8, np.array([0]), np.array([1]), probabilities)
    assert found == ["true 2 (1.8 %)\npredicted a name t…is room (98.2 %)"]


def test_captions_of_the_worst_mistakes_do_not_overlap(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: drawn.append(figure))
    captions = ["true automobile (1.0 %)\npredicted automobile (95.8 %)", "true cat (0.4 %)\npredicted soft-coated t…r (98.2 %)"] * 5
    figures.mistakes_grid([np.zeros((32, 32, 3), np.uint8)] * 10, captions, tmp_path / "a.png")
    drawn[0].draw_without_rendering()
    boxes = [axes.title.get_window_extent() for axes in drawn[0].axes]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    assert all(drawn[0].bbox.x0 <= box.x0 and box.x1 <= drawn[0].bbox.x1 for box in boxes)


def test_the_pictures_of_the_documents_are_of_this_style():
    """Those that can be drawn anew from the numbers beside them are: see the tables in README and docs."""
    for name in ("study_depth.png", "performance_training.png", "performance_inference.png"):
        with Image.open(ROOT / "docs" / name) as image:
            assert image.width <= 1.1 * reporting.WIDTH * reporting.DPI and image.width > 1000


def test_the_names_of_classes_go_with_a_saved_network(tmp_path):
    import zipfile

    import keras

    from keras_widerresnet.models import find_source
    from keras_widerresnet.weights.keras_file import keep_class_names, kept_class_names

    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="linear2")(inputs))
    path = tmp_path / "copied.keras"
    model.save(path)
    assert kept_class_names(path) == () and find_source(str(path)).facts.class_names == ()
    keep_class_names(path, ("chat", "chien"))
    assert find_source(str(path)).facts.class_names == ("chat", "chien")
    again = keras.models.load_model(path)
    np.testing.assert_array_equal(again.get_weights()[0], model.get_weights()[0])
    for content in ("{", json.dumps([1, 2]), json.dumps("ab"), "[" * 100_000):
        with zipfile.ZipFile(tmp_path / "other.keras", "w") as archive:
            archive.writestr("class_names.json", content)
        assert kept_class_names(tmp_path / "other.keras") == ()
    (tmp_path / "text.keras").write_text("no archive")
    assert kept_class_names(tmp_path / "text.keras") == ()
