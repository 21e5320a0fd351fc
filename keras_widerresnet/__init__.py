"""Wide, shallow residual networks in Keras (*Wider or Deeper*, arXiv:1611.10080), equal to the official definition."""

import importlib

import lazy_loader
import wrapt

__version__ = "0.1.0"

# Names are resolved lazily, so that the command line can reject a wrong flag before Keras is imported.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


@wrapt.when_imported("keras")
def _register_layers(_: object) -> None:
    """Registers the custom layers, optimizers, losses and metrics as soon as Keras is imported, so that saved networks can be loaded."""
    layers = ("units", "pyramid", "enlarge", "hub.layers", "export.fold")
    for name in (*layers, "training.optimizer", "tasks.segmentation.loss", "tasks.segmentation.metrics"):
        importlib.import_module(f"{__name__}.{name}")


@wrapt.when_imported("keras_hub")
def _register_hub_classes(_: object) -> None:
    """Registers the models of `hub` as soon as KerasHub is imported, so that their presets and files can be loaded by it."""
    importlib.import_module(f"{__name__}.hub.models")
