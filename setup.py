"""For tools that still call it; all that describes the package is in pyproject.toml."""

from setuptools import setup

setup()
