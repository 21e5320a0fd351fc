"""Real image content for tests: pieces of the two photographs in scikit-learn's wheel."""

from PIL import Image
from sklearn.datasets import load_sample_images

PHOTOGRAPHS = load_sample_images().images


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
