"""Wide, shallow residual networks in Keras (*Wider or Deeper*, arXiv:1611.10080), equal to the official definition."""

import importlib
import sys
import types

import lazy_loader
import wrapt

__version__ = "0.1.0"

# Names are resolved lazily, so that the command line can reject a wrong flag before Keras is imported.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


# Modules with custom layers, optimizers, losses and metrics, and the one that these need and that imports Keras too.
_LAYERS = ("batch_norm", "convolution", "units", "pyramid", "enlarge", "hub.library", "hub.layers", "export.fold")
_REGISTERED = (*_LAYERS, "training.optimizer", "tasks.segmentation.loss", "tasks.segmentation.metrics")


def _register_layers(loaded: types.ModuleType) -> None:
    """Registers the custom classes as soon as Keras is imported, so that saved networks can be loaded.

    Args:
        loaded: the module that has just been imported: Keras, or one of those above, which may have been the one to import Keras. The
            others cannot be imported before it is complete.
    """
    names = [f"{__name__}.{name}" for name in _REGISTERED]
    specs = [getattr(sys.modules.get(name), "__spec__", None) for name in names if name != loaded.__name__]
    if "keras" in sys.modules and not any(getattr(spec, "_initializing", False) for spec in specs):
        for name in names:
            importlib.import_module(name)


for _name in ("keras", *(f"{__name__}.{name}" for name in _REGISTERED)):
    wrapt.register_post_import_hook(_register_layers, _name)


@wrapt.when_imported("keras_hub")
def _register_hub_classes(_: object) -> None:
    """Registers the models of `hub` as soon as KerasHub is imported, so that their presets and files can be loaded by it."""
    importlib.import_module(f"{__name__}.hub.models")
