"""The same networks on Keras' other backends, in processes of their own."""

import importlib.util
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
# Pooled and dilated, strided, the three pool conventions, odd sizes, dropout (off in prediction).
SCRIPT = """
import sys
import keras
import numpy as np
import refparams
import keras_widerresnet as kw
from keras_widerresnet.weights.official import assign_official, official_shapes

outputs = {}
for name, build, options in (
    ("a ceil", kw.WideResNetA, {}),
    ("a symmetric", kw.WideResNetA, {"pool_padding": "symmetric"}),
    ("a valid", kw.WideResNetA, {"pool_padding": "valid"}),
    ("a stride 8", kw.WideResNetA, {"output_stride": 8}),
    ("a1", kw.WideResNetA1, {}),
    ("a1 stride 8", kw.WideResNetA1, {"output_stride": 8, "dropout": (0.3, 0.5)}),
    ("a2 stride 16", kw.WideResNetA2, {"output_stride": 16}),
    ("d", kw.WideResNetD, {}),
):
    for size in ((71, 90), (None, None)):
        model = build(input_shape=(*size, 3), width=0.125, classes=10, classifier_activation=None, **options)
        assign_official(model, {key: refparams.array(key, shape) for key, shape in official_shapes(model).items()}, "refparams")
        image = refparams.image((2, 3, 71, 90)).transpose(0, 2, 3, 1)
        outputs[f"{name} {size}"] = model.predict(image, verbose=0)
    if name == "a1":
        maps = kw.class_activation_maps(model, image[:1, :48, :64], [3, 8], scales=(0.5, 1))
        outputs["maps"] = np.asarray(maps)
assert keras.backend.backend() == sys.argv[2]
np.savez(sys.argv[1], **outputs)
"""


def outputs(tmp_path, backend):
    path = tmp_path / f"{backend}.npz"
    python_path = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "data")))
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": python_path}
    subprocess.run([sys.executable, "-c", SCRIPT, str(path), backend], env=environment, check=True)
    return dict(np.load(path))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_predict_the_same(tmp_path, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    ours, theirs = (outputs(tmp_path, name) for name in ("tensorflow", backend))
    assert len(ours) == 17
    for name, expected in ours.items():
        difference = np.abs(theirs[name] - expected).max() / np.abs(expected).max()
        assert difference < 1e-5, f"{name}: {difference:.1e}"
