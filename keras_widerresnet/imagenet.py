"""The classes of ILSVRC 2012."""

from __future__ import annotations

import csv
import functools
import importlib.resources


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Returns (WordNet synset, name) of the 1000 classes of ILSVRC 2012 in the usual order, sorted by synset (names: WordNet 3.0)."""
    text = importlib.resources.files("keras_widerresnet").joinpath("imagenet_classes.csv").read_text()
    return tuple((row["synset"], row["name"]) for row in csv.DictReader(text.splitlines()))
