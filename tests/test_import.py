import subprocess
import sys


def test_networks_need_no_tensorflow_of_their_own():
    """Importing the package and building a network imports nothing of data, training or pictures."""
    code = "import keras_widerresnet, sys; keras_widerresnet.WideResNetE(width=0.05); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    forbidden = ("keras_widerresnet.data", "keras_widerresnet.training", "keras_widerresnet.evaluation", "tensorflow_datasets", "tabulate")
    assert not [module for module in modules if module.startswith(forbidden)]


def test_model_code_does_not_name_tensorflow():
    from keras_widerresnet import networks, preprocessing, structures, units, weights

    for module in (networks, preprocessing, structures, units, weights):
        with open(module.__file__) as file:
            assert "import tensorflow" not in file.read()
