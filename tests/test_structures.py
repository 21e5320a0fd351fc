import dataclasses

import pytest

from keras_widerresnet.errors import InputError
from keras_widerresnet.structures import STRUCTURES, Pool, Structure, Unit, find_structure, stage_filters

# Paper, results table: structure, depth, top-1, top-5, images/s.
PAPER = {
    "F": ("56-1-1-1-1-9-1-1", 34, 25.2, 7.8, 113.5),
    "E": ("112-1-1-1-1-5-1-1", 26, 22.3, 6.2, 97.3),
    "D": ("112-1-1-1-1-9-1-1", 34, 22.1, 6.0, 81.2),
    "C": ("112-1-1-1-1-13-1-1", 42, 21.8, 5.9, 69.2),
    "224-0-1-1-1-1-1-1": ("224-0-1-1-1-1-1-1", 16, 22.0, 5.8, 55.3),
    "B": ("224-0-1-1-1-3-1-1", 20, 21.0, 5.5, 43.3),
    "A": ("224-0-3-3-6-3-1-1", 38, 19.2, 4.7, 15.7),
}


@pytest.mark.parametrize("name", PAPER)
def test_record_is_the_papers_row(name):
    structure = STRUCTURES[name]
    published = structure.published
    assert (str(structure), structure.depth, published.top1_error, published.top5_error, published.images_per_second) == PAPER[name]


def test_table_holds_the_papers_networks_and_the_two_variants():
    assert set(STRUCTURES) == {*PAPER, "A1", "A2"}


@pytest.mark.parametrize("text", [row[0] for row in PAPER.values()] + ["28-0-1-1-1-1-1-1", "32-2-0-3-3-0-0-0"])
def test_parse_and_print_are_inverse(text):
    assert str(Structure.parse(text)) == text
    assert Structure.parse(str(Structure.parse(text))) == Structure.parse(text)


@pytest.mark.parametrize(
    "text", ["", "224", "224-0-3-3-6-3-1", "224-0-3-3-6-3-1-1-1", "224-0-3-3-x-3-1-1", "224--0-3-3-6-3-1-1", "224-0-3-3-6-3-1-1.5", "A9",
             "6-0-1-1-1-1-1-1", "224-0-0-0-0-0-0-0", "٢٢٤-0-3-3-6-3-1-1"],
)  # fmt: skip
def test_malformed_structure_is_refused(text):
    with pytest.raises(InputError, match=r"Received|at least"):
        find_structure(text)


def test_error_names_the_notation_and_the_known_names():
    with pytest.raises(InputError, match=r"S-n1-n2-n3-n4-n5-n6-n7.*A1, A2"):
        find_structure("resnet50")


@pytest.mark.parametrize(
    ("crop", "halvings", "sizes"),
    [(224, (2, 3, 4, 5, 6), (224, 112, 56, 28, 14, 7, 7)), (112, (2, 3, 4, 5), (112, 56, 28, 14, 7, 7, 7)),
     (56, (2, 3, 4), (56, 28, 14, 7, 7, 7, 7)), (28, (2, 3), (28, 14, 7, 7, 7, 7, 7)), (32, (2, 3), (32, 16, 8, 8, 8, 8, 8))],
)  # fmt: skip
def test_crop_size_decides_the_halvings(crop, halvings, sizes):
    structure = Structure(crop, (0, 1, 1, 1, 1, 1, 1))
    assert structure.halvings == halvings
    assert tuple(structure.spatial_sizes().values()) == sizes


@pytest.mark.parametrize("name", ["A", "A1", "A2"])
def test_parameter_counts_of_the_official_network(name):
    structure = STRUCTURES[name]
    assert structure.parameters() == 109_167_912
    assert structure.statistics() == 47_744
    assert structure.parameters(include_top=False) == 105_070_912


@pytest.mark.parametrize(("name", "billions"), [("A", 49.5), ("B", 16.2), ("224-0-1-1-1-1-1-1", 12.5)])
def test_multiply_adds_at_224(name, billions):
    assert round(STRUCTURES[name].multiply_adds(224) / 1e9, 1) == billions


def dilations(structure, output_stride):
    return {unit.name: unit.dilations for unit in structure.plan(output_stride=output_stride) if isinstance(unit, Unit)}


def test_dilation_of_the_strided_network():
    at_8, at_16 = (dilations(STRUCTURES["A1"], stride) for stride in (8, 16))
    assert at_8["4b5"] == (1, 1)
    assert at_8["5a"] == (1, 2)  # the first convolution of the unit that would have halved keeps the incoming dilation
    assert at_8["5b1"] == at_8["5b2"] == (2, 2)
    assert at_8["6a"][1:] == (4, 4) and at_8["7a"] == (4, 4, 4)
    assert at_16["5a"] == at_16["5b2"] == (1, 1)
    assert at_16["6a"] == (1, 2, 2) and at_16["7a"] == (2, 2, 2)


def test_dropped_pools_are_dilated_pools_of_stride_1():
    def pools(stride):
        return [item for item in STRUCTURES["A"].plan(output_stride=stride) if isinstance(item, Pool)]

    assert [(pool.name, pool.stride, pool.dilation) for pool in pools(None)] == [(f"pool{k}", 2, 1) for k in range(1, 6)]
    assert [(pool.stride, pool.dilation) for pool in pools(16)][-2:] == [(2, 1), (1, 1)]
    assert [(pool.stride, pool.dilation) for pool in pools(8)][-2:] == [(1, 1), (1, 2)]
    # Here it is the pool that would have halved: the unit after it is dilated whole.
    assert dilations(STRUCTURES["A"], 8)["5a"] == (2, 2)


def test_output_stride_must_be_reachable():
    assert STRUCTURES["A"].output_strides() == (32, 16, 8)
    assert STRUCTURES["D"].output_strides() == (16, 8)
    assert STRUCTURES["F"].output_strides() == (8,)
    with pytest.raises(InputError, match=r"one of \(16, 8\)\. Received: 32"):
        STRUCTURES["D"].plan(output_stride=32)


def test_width_scales_every_stage_in_multiples_of_eight():
    filters = stage_filters(0.3)
    assert filters[1] == (16, 16) and filters[5] == (152, 304) and filters[7] == (304, 616, 1232)
    assert stage_filters(0.001)[7] == (8, 8, 8)
    assert all(count % 8 == 0 for factor in (0.1, 0.25, 0.77, 1.4) for stage in stage_filters(factor).values() for count in stage)


def test_five_widths_follow_the_release():
    assert stage_filters((1, 1, 1, 1, 1)) == stage_filters(1.0)
    assert stage_filters((1, 1, 1, 1, 0.5))[5] == (512, 512)
    assert stage_filters((1, 1, 1, 1, 2.0))[5] == (1024, 1024)
    assert stage_filters((2, 2, 2, 4, 1))[4] == (1024, 1024)
    assert stage_filters((0.5,) * 5)[7] == (1024, 2048, 4096)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf"), (1, 1), "wide"])
def test_bad_width_is_refused(width):
    with pytest.raises(InputError, match="width"):
        stage_filters(width)


@pytest.mark.parametrize("dropout", [1.0, -0.1, (0.3,), "half"])
def test_bad_dropout_is_refused(dropout):
    with pytest.raises(InputError, match="dropout"):
        STRUCTURES["A"].plan(dropout=dropout)


def test_strided_stage_without_units_is_refused():
    with pytest.raises(InputError, match="B3 has no unit"):
        Structure(224, (0, 1, 0, 1, 1, 1, 1), ("stride",) * 5)
    Structure(224, (0, 1, 0, 1, 1, 1, 1))


@pytest.mark.parametrize(("padding", "minimum"), [("ceil", 32), ("symmetric", 1), ("valid", 63)])
def test_minimum_size_is_the_smallest_that_leaves_a_cell(padding, minimum):
    structure = STRUCTURES["A"]
    assert structure.minimum_size(pool_padding=padding) == minimum
    assert structure.spatial_sizes(minimum, pool_padding=padding)[7] >= 1
    if minimum > 1:
        with pytest.raises(InputError, match=f"at least {minimum} pixels"):
            structure.spatial_sizes(minimum - 1, pool_padding=padding)


def test_records_are_frozen_and_changed_ones_lose_their_name():
    with pytest.raises(dataclasses.FrozenInstanceError):
        STRUCTURES["A"].crop_size = 112
    changed = STRUCTURES["A"].replace(downsampling=("stride",) * 5)
    assert changed.name == "" and changed.published is None and changed.units == STRUCTURES["A"].units
