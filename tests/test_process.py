import os
import platform
import subprocess
import sys

import numpy as np
import pytest

import keras_widerresnet as kw
from keras_widerresnet.cli import process
from keras_widerresnet.compare import difference

TAKES_64_MB = """
import ctypes, os, re
from keras_widerresnet.cli import process

process.restart_with_huge_pages()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
begin = libc.malloc(ctypes.c_size_t(64 * 2**20))
regions = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read(), flags=re.M)[1:]
inside = [region for region in regions if (ends := [int(end, 16) for end in region.split()[0].split("-")])[0] <= begin < ends[1]]
print(os.environ["GLIBC_TUNABLES"], " hg " in inside[0].splitlines()[-1] + " ")
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver() < ("glibc", "2.35"), reason="needs Linux and glibc 2.35")
def test_restart_asks_for_huge_pages(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.top_pad=65536")
    ran = subprocess.run([sys.executable, "-c", TAKES_64_MB], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["glibc.malloc.top_pad=65536:glibc.malloc.hugetlb=1", "True"]


FIRST_IMPORT = """
import gc
from keras_widerresnet.cli import process

with process.without_garbage_collection():
    print(gc.isenabled())
    import tensorflow
frozen = gc.get_freeze_count()
with process.without_garbage_collection():
    print(gc.isenabled())
print(gc.isenabled(), frozen > 100_000, gc.get_freeze_count() == frozen)
"""


def test_garbage_collection_is_left_out_of_the_first_import():
    """What comes later, a caller's own objects in a process that goes on, is collected as ever."""
    ran = subprocess.run([sys.executable, "-c", FIRST_IMPORT], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True", "True", "True", "True"]


TWO_SIZES = """
import sys
from keras_widerresnet.cli import process

process.hold_weights_frozen()
import keras, numpy as np, keras_widerresnet as kw

model = keras.saving.load_model(sys.argv[1])
images = np.load(sys.argv[2])
np.savez(sys.argv[3], *(model.predict_on_batch(images[:, :size, :size]) for size in (64, 96, 64)))
"""


def test_frozen_weights_give_the_same_outputs_at_every_size(tmp_path):
    """What oneDNN keeps of a convolution's weights for one size of images is not taken for those of another."""
    model = kw.WideResNetA1(width=0.125, classes=5, input_shape=(None, None, 3), classifier_activation=None)
    images = np.random.default_rng(0).normal(size=(2, 96, 96, 3)).astype(np.float32)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    names = [str(tmp_path / name) for name in ("model.keras", "images.npy", "found.npz")]
    subprocess.run([sys.executable, "-c", TWO_SIZES, *names], capture_output=True, check=True)
    with np.load(tmp_path / "found.npz") as found:
        for size, key in zip((64, 96, 64), found, strict=True):
            expected = np.asarray(model(images[:, :size, :size], training=False))
            assert difference(found[key], expected) < 1e-5


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("0", "0")])
def test_onednn_is_used_unless_the_user_decided(monkeypatch, given, expected):
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(os, "environ", {process.ONEDNN: given} if given else {})
    process.use_onednn()
    assert os.environ == {process.ONEDNN: expected}


def test_onednn_is_left_alone_on_other_processors(monkeypatch):
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(os, "environ", {})
    process.use_onednn()
    assert os.environ == {}
