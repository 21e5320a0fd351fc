"""Real image content for tests: photographs in scikit-learn's and scikit-image's wheels."""

import io

import skimage
from PIL import Image
from sklearn.datasets import load_sample_images

PHOTOGRAPHS = load_sample_images().images


def jpeg(image):
    """JPEG bytes of a uint8 RGB image, colours at half resolution as cameras write them."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


# Of scikit-learn and scikit-image, as JPEG bytes; cut to odd sizes where the name says so.
REAL_PHOTOGRAPHS = {
    "china": jpeg(PHOTOGRAPHS[0]),
    "flower odd": jpeg(PHOTOGRAPHS[1][:301, :407]),
    "astronaut": jpeg(skimage.data.astronaut()),
    "cat odd": jpeg(skimage.data.chelsea()[:297, :451]),
    "coffee upright": jpeg(skimage.data.coffee().transpose(1, 0, 2)),
    "rocket": jpeg(skimage.data.rocket()),
}


def tiles(count, size=24, photograph=0):
    """`count` different uint8 RGB tiles of a photograph."""
    return [PHOTOGRAPHS[photograph][i * size // 2 : i * size // 2 + size, 3 * i : 3 * i + size] for i in range(count)]


def write_folder(root, classes=("cat", "dog"), count=5, suffix=".jpg"):
    """Class folders under `root` with `count` tiles each."""
    for index, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number, tile in enumerate(tiles(count, photograph=index % 2)):
            Image.fromarray(tile).save(root / name / f"{number}{suffix}")
    return root
