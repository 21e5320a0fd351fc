"""The classes of the public segmentation benchmarks: names, colours, and the values that encode them in mask files.

Class `k` of a network is train id `k`; pixels of train id 255 are ignored in training and testing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from keras_widerresnet.colors import RGB, class_colors
from keras_widerresnet.errors import InputError

IGNORED = 255
MAX_CLASSES = 254  # of the byte values, 255 means ignored and 254 marks unexpected values


def voc_palette(n: int = 256) -> np.ndarray:
    """Returns PASCAL VOC's colours as uint8 (n, 3).

    Bits 0, 1 and 2 of the index are the highest bits of red, green and blue, bits 3, 4 and 5 the next ones, bits 6 and 7 the third
    ones of red and green (the devkit's colour map).
    """
    bits = np.unpackbits(np.arange(n, dtype=np.uint8)[:, None], axis=1, bitorder="little")  # (n, 8), lowest first
    bits = np.pad(bits, ((0, 0), (0, 1))).reshape(n, 3, 3)  # index, significance, channel
    return (bits << np.array([7, 6, 5], np.uint8)[:, None]).sum(axis=1).astype(np.uint8)


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """The meaning of the train ids of a data set.

    Args:
        name: name of the data set, e.g. `"voc"`.
        class_names: names of train ids 0, 1, …
        colors: RGB of each train id in the palettes of mask files: the official colours, or those of the figures where there are none.
        stored_ids: the value of each train id in mask files.
        ignored_ids: the values in mask files that are ignored, if any; the first is written where a prediction has no class.
        mask_colors: colours of mask files that are RGB images, each with the value for which it stands; empty if there are none.

    Raises:
        InputError: if the lengths differ, or a value or a colour has two meanings or none.
    """

    name: str
    class_names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    stored_ids: tuple[int, ...]
    ignored_ids: tuple[int, ...] = (IGNORED,)
    mask_colors: tuple[tuple[RGB, int], ...] = ()

    def __post_init__(self):
        if not 1 <= self.classes == len(self.colors) == len(self.stored_ids) <= MAX_CLASSES:
            raise InputError(
                f"A label map must have 1 to {MAX_CLASSES} classes, each with a name, a colour and a stored value. "
                f"Received: {self.classes} names, {len(self.colors)} colours, {len(self.stored_ids)} values"
            )
        values = (*self.stored_ids, *self.ignored_ids)
        if len(set(values)) != len(values) or min(values) < 0 or max(values) > 255:
            raise InputError(
                "Stored values must be different whole numbers in 0..255, each assigned to one class or ignored. "
                f"Received: {self.stored_ids} for classes, {self.ignored_ids} ignored"
            )
        if len(dict(self.mask_colors)) < len(self.mask_colors) or not {value for _, value in self.mask_colors} <= set(values):
            raise InputError(f"Colours of masks must be different, and stand for stored values. Received: {self.mask_colors}")

    @property
    def classes(self) -> int:
        return len(self.class_names)

    def to_train(self) -> np.ndarray:
        """Returns the train id of each stored value as uint8 (256,), 255 for values without a class."""
        table = np.full(256, IGNORED, np.uint8)
        table[list(self.stored_ids)] = np.arange(self.classes)
        return table

    def to_stored(self) -> np.ndarray:
        """Returns the stored value of each train id as uint8 (256,); for other ids the first ignored, or else the highest unused value."""
        none = self.ignored_ids[0] if self.ignored_ids else max(set(range(256)) - set(self.stored_ids))
        table = np.full(256, none, np.uint8)
        table[: self.classes] = self.stored_ids
        return table

    def unknown(self) -> int:
        """Returns the highest value that may not occur in mask files."""
        return int(np.flatnonzero(~self.known())[-1])

    def known(self) -> np.ndarray:
        """Returns which stored values may occur in mask files, as bool (256,)."""
        table = np.zeros(256, bool)
        table[[*self.stored_ids, *self.ignored_ids]] = True
        return table


def _names(text: str, separator: str | None = None) -> tuple[str, ...]:
    return tuple(" ".join(name.split()) for name in text.split(separator))


def _palette(first: int, count: int) -> tuple[tuple[int, int, int], ...]:
    return tuple(tuple(color) for color in voc_palette()[first : first + count].tolist())


def numbered(
    name: str, class_names: tuple[str, ...], ignored_ids: tuple[int, ...] = (IGNORED,), stored_ids: tuple[int, ...] | None = None
) -> LabelMap:
    """Returns a label map with the colours of the figures; the stored values default to the train ids."""
    return LabelMap(name, class_names, class_colors(class_names), stored_ids or tuple(range(len(class_names))), ignored_ids)


_VOC = _names("""
    background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa train
    tvmonitor
""")

# Name, id and colour by train id (Cityscapes' public scripts); the other ids in 0..33 are ignored, and -1 does not occur in files.
_CITYSCAPES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_CITYSCAPES_IGNORED = (0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18, 29, 30)

_ADE20K = _names(
    """
    wall, building, sky, floor, tree, ceiling, road, bed, windowpane, grass, cabinet, sidewalk, person, earth, door, table, mountain,
    plant, curtain, chair, car, water, painting, sofa, shelf, house, sea, mirror, rug, field, armchair, seat, fence, desk, rock,
    wardrobe, lamp, bathtub, railing, cushion, base, box, column, signboard, chest of drawers, counter, sand, sink, skyscraper,
    fireplace, refrigerator, grandstand, path, stairs, runway, case, pool table, pillow, screen door, stairway, river, bridge, bookcase,
    blind, coffee table, toilet, flower, book, hill, bench, countertop, stove, palm, kitchen island, computer, swivel chair, boat, bar,
    arcade machine, hovel, bus, towel, light, truck, tower, chandelier, awning, streetlight, booth, television receiver, airplane, dirt
    track, apparel, pole, land, bannister, escalator, ottoman, bottle, buffet, poster, stage, van, ship, fountain, conveyer belt,
    canopy, washer, plaything, swimming pool, stool, barrel, basket, waterfall, tent, bag, minibike, cradle, oven, ball, food, step,
    tank, trade name, microwave, pot, animal, bicycle, lake, dishwasher, screen, blanket, sculpture, hood, sconce, vase, traffic light,
    tray, ashcan, fan, pier, crt screen, plate, monitor, bulletin board, shower, radiator, glass, clock, flag
    """,
    separator=",",
)

# Background, VOC's twenty in VOC's order, then the other 39 frequent classes in the order of the usual 60-class masks.
_PASCAL_CONTEXT = _names("""
    background aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike person pottedplant sheep sofa train
    tvmonitor bag bed bench book building cabinet ceiling cloth computer cup door fence floor flower food grass ground keyboard light
    mountain mouse curtain platform sign plate road rock shelves sidewalk sky snow bedclothes track tree truck wall water window wood
""")

# Colour of each of CamVid's 32 classes (its label_colors.txt), and SegNet's class that contains it (Badrinarayanan et al. 2017).
_CAMVID_COLORS = (
    ("sky", (128, 128, 128)),  # Sky
    ("building", (128, 0, 0)),  # Building
    ("building", (0, 128, 64)),  # Bridge
    ("building", (64, 192, 0)),  # Wall
    ("building", (64, 0, 64)),  # Tunnel
    ("building", (192, 0, 128)),  # Archway
    ("pole", (192, 192, 128)),  # Column_Pole
    ("pole", (0, 0, 64)),  # TrafficCone
    ("road", (128, 64, 128)),  # Road
    ("road", (128, 0, 192)),  # LaneMkgsDriv
    ("road", (192, 0, 64)),  # LaneMkgsNonDriv
    ("pavement", (0, 0, 192)),  # Sidewalk
    ("pavement", (64, 192, 128)),  # ParkingBlock
    ("pavement", (128, 128, 192)),  # RoadShoulder
    ("tree", (128, 128, 0)),  # Tree
    ("tree", (192, 192, 0)),  # VegetationMisc
    ("sign", (192, 128, 128)),  # SignSymbol
    ("sign", (128, 128, 64)),  # Misc_Text
    ("sign", (0, 64, 64)),  # TrafficLight
    ("fence", (64, 64, 128)),  # Fence
    ("car", (64, 0, 128)),  # Car
    ("car", (64, 128, 192)),  # SUVPickupTruck
    ("car", (192, 128, 192)),  # Truck_Bus
    ("car", (192, 64, 128)),  # Train
    ("car", (128, 64, 64)),  # OtherMoving
    ("pedestrian", (64, 64, 0)),  # Pedestrian
    ("pedestrian", (192, 128, 64)),  # Child
    ("pedestrian", (64, 0, 192)),  # CartLuggagePram
    ("pedestrian", (64, 128, 64)),  # Animal
    ("cyclist", (0, 128, 192)),  # Bicyclist
    ("cyclist", (192, 0, 192)),  # MotorcycleScooter
    ("", (0, 0, 0)),  # Void
)
_CAMVID = tuple(dict.fromkeys(name for name, _ in _CAMVID_COLORS if name))
_CAMVID_VOID = len(_CAMVID)  # as in SegNet's masks

_VOC_COLORS = (*((color, value) for value, color in enumerate(_palette(0, 21))), (_palette(IGNORED, 1)[0], IGNORED))

LABEL_MAPS = {
    "voc": LabelMap("voc", _VOC, _palette(0, 21), tuple(range(21)), mask_colors=_VOC_COLORS),
    "sbd": LabelMap("sbd", _VOC, _palette(0, 21), tuple(range(21))),
    "cityscapes": LabelMap(
        "cityscapes",
        class_names=tuple(name for name, _, _ in _CITYSCAPES),
        colors=tuple(color for _, _, color in _CITYSCAPES),
        stored_ids=tuple(stored for _, stored, _ in _CITYSCAPES),
        ignored_ids=_CITYSCAPES_IGNORED,
    ),
    "cityscapes_train_ids": LabelMap(
        "cityscapes_train_ids",
        class_names=tuple(name for name, _, _ in _CITYSCAPES),
        colors=tuple(color for _, _, color in _CITYSCAPES),
        stored_ids=tuple(range(len(_CITYSCAPES))),
    ),
    "camvid": LabelMap(
        "camvid",
        _CAMVID,
        colors=tuple(next(color for other, color in _CAMVID_COLORS if other == name) for name in _CAMVID),
        stored_ids=tuple(range(len(_CAMVID))),
        ignored_ids=(_CAMVID_VOID, IGNORED),
        mask_colors=tuple((color, _CAMVID.index(name) if name else _CAMVID_VOID) for name, color in _CAMVID_COLORS),
    ),
    "ade20k": LabelMap("ade20k", _ADE20K, _palette(1, 150), tuple(range(1, 151)), (0,)),
    "pascal_context": LabelMap("pascal_context", _PASCAL_CONTEXT, _palette(0, 60), tuple(range(60))),
}
