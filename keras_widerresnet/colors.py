"""The colours of all pictures, told apart with normal vision, protanopia and deuteranopia."""

from __future__ import annotations

from collections.abc import Sequence

RGB = tuple[int, int, int]

# Okabe and Ito (2008), Color Universal Design.
BLUE, VERMILLION, SKY_BLUE, BLACK, GREEN, PURPLE = "#0072b2", "#d55e00", "#56b4e9", "#000000", "#009e73", "#cc79a7"
# Of lines, in order; markers differ too, so that nothing hangs on colour alone. Their yellow and orange are too pale for lines on white.
LINES = (BLUE, VERMILLION, SKY_BLUE, BLACK, GREEN, PURPLE)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GREY, YELLOW = "#a6a6a6", "#f0e442"

# Of classes in overlays. The first twelve were searched for the largest least difference (CIEDE2000) between any two of them, as seen with
# normal vision, protanopia and deuteranopia (Machado et al. 2009); each of the others is the one that differs most from all before it.
_CLASSES = """
    ffe300 551caa 555500 ffc6ff 38aa8e 388eff 007171 8eaa1c aa0055 aa7155 38ffaa ff00c6 3c2d1e 5a004b 0087a5 3cc378 697800 a5a5b4
    4b4b4b 3c8778 0000ff d2a5ff 4b5a87 2d2d2d 875a3c 87d25a a5c3a5 3c3c00 c3f0d2 009696 003c69 4b4b2d a51ec3 d21e69 ff2d87 ff2d5a
    d2ff78 5a9600 b4c3d2 ff0fff 2d0f87 d296d2 e1e1f0 b4a5a5 9678c3 00e187 2d9678 780f3c 872dff d2965a e1e1e1 f03ca5 876969 96693c
    e1b41e 5a6900 d287e1 0000d2 2d4b87 969669 691e4b 962d3c 4b9687 fff0c3 b4f087 d2b4f0 a5e1b4 5a5a5a 008787 a57869 78c3b4 5a4b1e
    0f4b69 785aa5 e18796 3c2d0f b487b4 3c3c3c c3d2c3 87873c 3c874b a50f2d c3e15a 0087e1 b42d5a ffc31e 0f00a5 693ca5 2d2d87 872d4b
    0f96a5 e1a5b4 785a69 006978 5a3ce1 f0c396 c32dc3 ff002d ff873c 2d8796 a53c96 e1a596 e14bd2 c396ff 1ef0ff 5a0f2d 5a0f3c 78005a
    4b5a3c d2a578 5a2d2d 4ba596 69871e a5ff4b d2ff96 b4c3e1 5a7878 4b3c1e b4a5c3 f01e87 2d2dd2 b496a5 3c4b00 871e5a 78694b 4b7869
    96ffff c3d2e1 e17869 785a4b 964b78 ff4b96 96e178 874bff d24b78 87e1d2 c35a96 4b78b4 a53c2d b4fff0 d20078 c3873c ffd2c3 69875a
    e178c3 3c7887 f0e1a5 87a578 782d87 d23ce1 d2b4c3 96b43c f01e5a f08700 b478b4 870f3c d2c3b4 2d785a ffa5a5 3cffe1 87b487 a53ce1
    f0b44b d2a5d2 2d6996 ffb469 c3a5e1 9600b4 ff87c3 69a5e1 f069d2 c30f3c 2d2dff b4d2f0 0f2d69 e196a5 694b69 5a3c78 5ab44b b45ab4
    d2693c 2d1e96 787887 f09669 d2e1d2 874b5a 78c396 ffe1c3 698787 b4ffd2 6996ff 69e1e1 87784b 96a587 2d00b4 8787a5 2d3c4b 969687
    96f0f0 5a78ff 4b4b5a d25ac3 d25aa5 c33c00 2d5a4b ff3c1e f0b487 2d1e78 2d00e1 b487d2 690fc3 4b2d96 968787 7878d2 ff78c3 d2f078
    784ba5 d2b4ff 87b4f0 78d278 870f00 5a005a b4e1e1 96d2b4 f0d296 4b2d5a 874b1e 96e11e f0f0f0 b44bb4 962d4b 4b2de1 969678 781e1e
    5a693c d25ae1 96692d d2f0b4 3ca569 96e1a5 787869 e196f0 3c6969 788769 871e2d c33c96 69001e 5a4bd2 d296b4 96b469 f02d4b 78b4a5
    f01e1e 0f3c78
"""
BACKGROUND = "background"
BACKGROUND_COLOR = (45, 45, 45)
WRONG_COLOR = (0, 0, 0)


def class_colors(class_names: Sequence[str]) -> tuple[RGB, ...]:
    """A colour for each class, RGB of 0..255; a first class named `background` is dark grey.

    Args:
        class_names: in the order of the classes, at most 254; more classes than 12 are less easily told apart.
    """
    colors = [_rgb(color) for color in _CLASSES.split()]
    if class_names and class_names[0] == BACKGROUND:
        colors.insert(0, BACKGROUND_COLOR)
    return tuple(colors[: len(class_names)])


def fractions(color: RGB) -> tuple[float, float, float]:
    """A colour of 0..255 as Matplotlib takes it, 0..1."""
    red, green, blue = color
    return red / 255, green / 255, blue / 255


def _rgb(color: str) -> RGB:
    return int(color[:2], 16), int(color[2:4], 16), int(color[4:], 16)
