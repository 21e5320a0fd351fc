"""Packaging; tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "keras_widerresnet" / "__init__.py").read_text())[1]

# Without what needs a GPU or gigabytes: the tests use all of these.
OPTIONAL = {
    "augment": ["keras-cv>=0.9"],
    "cityscapes": ["cityscapesscripts>=2.2"],
    "onnx": ["onnxruntime>=1.20", "tf2onnx>=1.17"],
    # Its protobufs, tensorflow-serving-api, ask for the full tensorflow: they are installed with --no-deps, see docs/serving.md.
    "serving": ["grpcio>=1.66"],
}
TEST = [
    "hypothesis>=6.100",
    "import-linter>=2.3",
    "ipykernel>=6.29",
    "mypy>=1.14",
    "nbclient>=0.10",
    "nbformat>=5.10",
    "pytest>=8",
    "pytest-xdist>=3.6",
    "ruff>=0.8",
    "scikit-image>=0.24",
    "types-requests>=2.31",
]

setup(
    name="keras_widerresnet",
    version=VERSION,
    description="Wide, shallow residual networks (Wider or Deeper, arXiv:1611.10080) in Keras, equal to the official definition",
    long_description=(ROOT / "README.md").read_text(),
    long_description_content_type="text/markdown",
    packages=find_packages(include=["keras_widerresnet", "keras_widerresnet.*"]),
    package_data={"keras_widerresnet": ["py.typed", "*.pyi", "*/*.pyi", "imagenet_classes.csv"]},
    entry_points={"console_scripts": ["keras-widerresnet = keras_widerresnet.cli:main"]},
    python_requires=">=3.10,<3.14",
    # The backend is the user's choice, as with Keras itself: see the extras.
    install_requires=[
        "absl-py>=2.1",
        "h5py>=3.11",
        "importlib_resources>=6",  # tensorflow-datasets uses it and does not ask for it
        "keras>=3.12,<4",
        "lazy-loader>=0.4",
        "matplotlib>=3.9",
        "numpy>=1.26",
        "pillow>=10",
        "requests>=2.31",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "tabulate>=0.9",
        "tensorboard>=2.18",
        "tensorflow-datasets>=4.9.7",
        "tqdm>=4.66",
        "wrapt>=1.16",
    ],
    extras_require={
        "tensorflow": ["tensorflow>=2.19,<3"],
        "tensorflow-cpu": ["tensorflow-cpu>=2.19,<3"],
        "tensorflow-cuda": ["tensorflow[and-cuda]>=2.19,<3"],
        **OPTIONAL,
        "benchmark": ["jax>=0.4.34", "onnxruntime>=1.20", "openvino>=2025.0", "tf2onnx>=1.17", "timm>=1.0", "torch>=2.4"],
        "torch": ["torch>=2.4"],
        "test": [*TEST, *(package for packages in OPTIONAL.values() for package in packages)],
    },
)
