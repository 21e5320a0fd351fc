"""The unravelled view against the paper's n = 3 cases (spec section 8)."""

import pathlib
import xml.etree.ElementTree

import pytest
from PIL import Image

from keras_widerresnet.analysis import figures
from keras_widerresnet.analysis.unravel import unravel
from keras_widerresnet.errors import InputError


@pytest.mark.parametrize(
    ("depth", "fixed"),
    [
        (1, {0: (), 1: (), 2: (1,), 3: (1, 2)}),
        (2, {0: (), 1: (), 2: (), 3: (1,)}),
        (3, {0: (), 1: (), 2: (), 3: ()}),
        (7, {0: (), 1: (), 2: (), 3: ()}),
        (None, {0: (), 1: (), 2: (), 3: ()}),
    ],
)
def test_three_units(depth, fixed):
    view = unravel(3, depth)
    assert {network.index: network.fixed_blocks for network in view.networks} == fixed
    assert view.over_deepened == (depth in (1, 2))


def test_sub_networks_grow_linearly():
    for units in range(1, 9):
        view = unravel(units, 2)
        assert [len(network.trained) for network in view.networks] == list(range(units + 1))
        assert [network.index for network in view.networks if network.trained_end_to_end] == [0, 1, 2][: units + 1]


def test_printed():
    assert str(unravel(3, 1)).splitlines()[1:] == ["M_0: y0", "M_1: y0 → f1", "M_2: y0 → [f1] → f2", "M_3: y0 → [f1] → [f2] → f3"]


def test_drawn(tmp_path: pathlib.Path):
    figures.unravelled(unravel(3, 2), tmp_path / "view")
    assert {path.name for path in tmp_path.iterdir()} == {"view.png", "view.svg"}
    with Image.open(tmp_path / "view.png") as picture:
        colors = {color[:3]: count for count, color in picture.convert("RGB").getcolors(1 << 20)}
    blue, grey = (tuple(bytes.fromhex(color[1:])) for color in (figures.TRAINED, figures.FIXED))
    assert 3 < colors[blue] / colors[grey] < 7  # five trained blocks, one fixed
    assert xml.etree.ElementTree.parse(tmp_path / "view.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("numbers", [(0, 1), (3, 0)])
def test_refusals(numbers):
    with pytest.raises(InputError, match="1 or more"):
        unravel(*numbers)
