"""The command line: help, what is answered before TensorFlow is imported, and every command with every kind of model."""

import dataclasses
import hashlib
import json
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
from conftest import reference_array
from photographs import REAL_PHOTOGRAPHS

import keras_widerresnet as kw
from keras_widerresnet.cli import COMMANDS, command_named, main
from keras_widerresnet.cli.command import help_text, parsed
from keras_widerresnet.options import given_flags, option, options_of
from keras_widerresnet.tasks.classification.prediction import predict
from keras_widerresnet.weights import PRETRAINED, registry
from keras_widerresnet.weights.mxnet_params import write_params
from keras_widerresnet.weights.official import official_shapes

ROOT = pathlib.Path(__file__).parent.parent
DIGITS = ROOT / "saved_models" / "digits"


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_every_flag_of_the_command_grouped_and_none_of_absls(name, capsys):
    command = command_named(name)
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0 and shown.startswith(command.summary) and command.example in shown
    known = options_of(command.config)
    headings = {one.group for one in known.values() if not one.is_positional}
    assert headings <= set(shown.splitlines())
    for flag, one in known.items():
        if not one.is_positional:
            assert f"--{flag}=" in shown or f"--[no]{flag} " in shown
            assert one.help.split()[0] in shown
    assert not {"--verbosity", "--alsologtostderr", "--pdb", "--only_check_args", "--logger_levels"} & set(shown.replace("=", " ").split())


def test_groups_of_train_come_in_the_order_of_a_run():
    shown = help_text(command_named("train"), "train.py").splitlines()
    groups = ["Run", "Data", "Network", "Optimisation", "Augmentation", "Devices"]
    assert [line for line in shown if line in groups] == groups


def test_the_scripts_are_the_commands():
    """Each script's help is its command's, and the overview lists all of them."""
    for script in ("train", "convert_weights"):
        ran = subprocess.run([sys.executable, str(ROOT / "scripts" / f"{script}.py"), "--help"], capture_output=True, text=True, check=True)
        assert ran.stdout.strip() == help_text(command_named(script.split("_")[0]), f"{script}.py")
    ran = subprocess.run([sys.executable, "-m", "keras_widerresnet"], capture_output=True, text=True, check=True)
    assert all(f"  {name} " in ran.stdout for name in COMMANDS)


BAD = [
    (["trian"], "'trian' is not a command", "Did you mean 'train'?"),
    (["train", "--output_dir=OUT", "--data=digit"], "Unknown data set 'digit'", "Did you mean 'digits'?"),
    (["train", "--output_dir=OUT", "--data=folder:missing/folder"], "No folder at 'missing/folder'", ""),
    (["train", "--output_dir=OUT", "--data=digits", "--structure=A11"], "S-n1-n2-n3-n4-n5-n6-n7", "Did you mean 'A1'?"),
    (["train", "--output_dir=OUT", "--data=digits", "--structre=A"], "Unknown command line flag 'structre'", "structure"),
    (["train", "--output_dir=OUT", "--data=digits", "--schedule=cosin"], "--schedule must be one of", "Did you mean 'cosine'?"),
    (["train", "--output_dir=OUT", "--data=digits", "--weights=imagenet-a11"], "No model found at", "Did you mean 'imagenet-a1'?"),
    (
        ["train", "--output_dir=OUT", "--data=digits", "--mixup=0.2", "--augmentations=keras_cv"],
        "needs keras_cv",
        'pip install "keras_widerresnet[augment]"',
    ),
    (["train", "--output_dir=OUT", "--data=digits", "--augmentations=keras-cv"], "--augmentations must be one of", "'keras_cv'"),
    (["train", "--output_dir=OUT", "--data=digits", "--structure=A", "--crop_size=4"], "must be at least", "pixels on each side"),
    (["train", "--output_dir=OUT", "--data=digits", "--structure=A", "--width=0"], "`width` must be one positive number", ""),
    (["train", "--output_dir=DIGITS", "--data=digits"], "exists: --resume continues that run", "--overwrite replaces it"),
    (["train", "--data=digits"], "--output_dir is needed", ""),
    (
        ["train-segmentation", "--output_dir=OUT", "--data=vocs:X", "--nofrozen_batch_norm"],
        "Unknown segmentation data set",
        "Did you mean 'voc'?",
    ),
    (["train-segmentation", "--output_dir=OUT", "--data=shapes"], "add --nofrozen_batch_norm", ""),
    (
        ["train-segmentation", "--output_dir=OUT", "--data=shapes", "--nofrozen_batch_norm", "--structure=F", "--output_stride=16"],
        "must be None or one of (8,)",
        "",
    ),
    (["evaluate", "--output_dir=OUT", "--weights=voc", "--data=digits"], "is a segmentation network", "evaluate-segmentation"),
    (["evaluate", "--output_dir=OUT", "--weights=missing.keras", "--data=digits"], "No model found at 'missing.keras'", ""),
    (["evaluate", "--output_dir=OUT", "--weights=DIGITS", "--data=digits", "--scales=many"], "--scales must be whole numbers", ""),
    (["evaluate", "--output_dir=DIGITS", "--weights=DIGITS", "--data=digits"], "is not an evaluation", ""),
    (
        ["evaluate-segmentation", "--output_dir=OUT", "--weights=imagenet-a", "--data=shapes"],
        "is a classification network",
        "use evaluate",
    ),
    (["predict", "--weights=DIGITS"], "give either at least one IMAGE or --data", ""),
    (["predict", "missing.jpg", "--weights=DIGITS"], "No image at 'missing.jpg'", ""),
    (["predict", "IMAGE", "--server=here"], "The server address must be HOST:PORT", ""),
    (["activation-maps", "missing.jpg", "--weights=DIGITS", "--output_dir=OUT"], "No image at 'missing.jpg'", ""),
    (["activation-maps", "IMAGE", "--weights=DIGITS", "--output_dir=DIGITS"], "exists and holds no activation maps", ""),
    (["activation-maps", "IMAGE", "--weights=DIGITS/../1", "--output_dir=OUT"], "is a SavedModel version", "use the run"),
    (["activation-maps", "IMAGE", "--weights=voc", "--output_dir=OUT"], "is a segmentation network", "evaluate-segmentation"),
    (["activation-maps", "IMAGE", "--weights=DIGITS", "--output_dir=OUT", "--scales=0"], "--scales must be positive numbers", ""),
    (["export", "--weights=DIGITS/../1", "--output=OUT"], "is a SavedModel version", "use the run"),
    (["export", "--weights=DIGITS", "--output=OUT", "--onnx"], "needs tf2onnx", 'pip install ".[onnx]"'),
    (["export", "--weights=DIGITS", "--output=DIGITS/../1"], "exists; --overwrite replaces it", ""),
    (["predict", "IMAGE", "--weights=DIGITS", "--output=DIGITS/curves.png"], "exists; --overwrite replaces it", ""),
    (["convert", "--source=missing.params", "--model=A1"], "No weights file can be read", ""),
    (["analyze", "DIGITS/../1", "--data=digits", "--output_dir=OUT"], "is a SavedModel version", "use the run"),
    (["compare-runs", "missing"], "not the directory of a finished run", ""),
    (["load-test", "IMAGE", "--server=nowhere"], "The server address must be HOST:PORT", ""),
    (["write-tfrecords", "--data=digits", "--output=OUT", "--train_shards=0"], "--train_shards must be at least 1", ""),
]
ALL_BAD = """
import importlib.util, json, sys
found = importlib.util.find_spec
absent = ("keras_cv", "tf2onnx")
importlib.util.find_spec = lambda name, *rest: None if name in absent else found(name, *rest)
from keras_widerresnet.cli import main
for arguments in json.load(open(sys.argv[1])):
    try:
        main(arguments)
        code = 0
    except SystemExit as stopped:
        code = stopped.code
    print("END", code, file=sys.stderr)
print(*(name for name in ("tensorflow", "keras", "torch", "jax") if name in sys.modules))
"""


def test_what_flags_alone_get_wrong_is_one_line_without_tensorflow_and_creates_nothing(tmp_path):
    (tmp_path / "image.jpg").write_bytes(next(iter(REAL_PHOTOGRAPHS.values())))
    names = {"OUT": "out", "DIGITS": str(DIGITS / "run"), "IMAGE": str(tmp_path / "image.jpg")}

    def filled(argument):
        for name, path in names.items():
            argument = argument.replace(name, path)
        return argument

    (tmp_path / "all.json").write_text(json.dumps([[filled(one) for one in arguments] for arguments, *_ in BAD]))
    work = tmp_path / "work"
    work.mkdir()
    command = [sys.executable, "-c", ALL_BAD, str(tmp_path / "all.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=work)
    assert ran.stdout.split() == []  # neither TensorFlow nor Keras was imported
    answers = ran.stderr.split("END ")
    assert len(answers) == len(BAD) + 1
    messages = [answers[0], *(one.partition("\n")[2] for one in answers[1:-1])]
    for (arguments, words, hint), answer, code in zip(BAD, messages, answers[1:], strict=True):
        assert code.split()[0] == "2", (arguments, answer)
        assert len(answer.strip().splitlines()) == 1, answer
        assert words in answer and hint in answer, answer
        if len(arguments) > 1:
            assert answer.startswith(f"keras-widerresnet {arguments[0]}: ")
    assert not list(work.iterdir())


def test_a_new_field_of_a_record_is_a_flag():
    """One declaration: the flag's name, type, default, bounds and help come of it, and so do the run's flag file and its check."""
    train = command_named("train")

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Longer(train.config):
        patience: int = option(3, help="epochs without a better score before the run ends", group="Optimisation", least=1)

    longer = dataclasses.replace(train, config=Longer)
    assert "--patience=N" in help_text(longer, "train.py") and "(default: 3)" in help_text(longer, "train.py")
    config = parsed(longer, ["--output_dir=x", "--data=digits", "--patience=5"])
    assert config.patience == 5 and "--patience=5" in given_flags(config)
    with pytest.raises(ValueError, match="--patience must be at least 1"):
        parsed(longer, ["--output_dir=x", "--data=digits", "--patience=0"])


STRUCTURES = {"classification": "56-0-1-1-1-0-0-0", "segmentation": "56-0-1-1-1-0-0-0"}
WIDTH = 0.0625
KINDS = ("run", "keras", "weights", "saved_model", "pretrained", "original")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """(task, kind) -> what a command takes: the same narrow network of each task in every kind."""
    root = tmp_path_factory.mktemp("models")
    patch = pytest.MonkeyPatch()
    patch.setenv("KERAS_WIDERRESNET_HOME", str(root / "home"))
    (root / "published").mkdir()
    patch.setenv("KERAS_WIDERRESNET_WEIGHTS_DIR", str(root / "published"))
    networks = {
        "classification": kw.WiderResNet(STRUCTURES["classification"], width=WIDTH, classes=10),
        "segmentation": kw.WideResNetFCN(STRUCTURES["segmentation"], 5, width=WIDTH),
    }
    found = {}
    for task, network in networks.items():
        folder = root / task
        original = folder / "network.params"
        folder.mkdir()
        write_params(original, {f"arg:{name}": reference_array(name, shape) for name, shape in official_shapes(network).items()})
        structure, weights = STRUCTURES[task], folder / "network.weights.h5"
        main(["convert", f"--source={original}", f"--model={structure}", f"--width={WIDTH}", f"--output={weights}"])
        network.load_weights(weights)
        network.save(folder / "network.keras")
        run = folder / "run"
        run.mkdir()
        network.save(run / "final.keras")
        head = "--classifier_convs=2\n" if task == "segmentation" else ""
        data = "shapes" if task == "segmentation" else "digits"
        (run / "flags.txt").write_text(f"--structure={structure}\n--width={WIDTH}\n--data={data}\n--steps_per_epoch=0\n{head}")
        (run / "metrics.csv").write_text("epoch,val_accuracy\n0,0.5\n")
        main(["export", f"--weights={run}", f"--output={folder / 'served'}", "--nowarmup"])
        record = registry.Pretrained(
            f"tiny-{task}",
            structure,
            network.output_shape[-1],
            (registry.OriginalFile(f"tiny-{task}.params", md5=hashlib.md5(original.read_bytes()).hexdigest()),),
            classifier_convs=2 if task == "segmentation" else 0,
        )
        patch.setitem(PRETRAINED, record.name, record)
        shutil.copy(original, root / "published" / f"{task}.params")
        places = (run, folder / "network.keras", weights, folder / "served", record.name, original)
        found |= {(task, kind): str(place) for kind, place in zip(KINDS, places, strict=True)}
    yield found
    patch.undo()


@pytest.fixture(scope="module")
def photograph(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "photograph.jpg"
    path.write_bytes(next(iter(REAL_PHOTOGRAPHS.values())))
    return str(path)


def arguments_of(command, model, task, output, photograph):
    """A command line with a model, without what the model does not tell."""
    told = [f"--width={WIDTH}"] if model.startswith("tiny") or model.endswith(".params") else []
    told += [f"--model={STRUCTURES[task]}"] if model.endswith(".params") else []
    quick = ["--epochs=1", "--steps_per_epoch=1", "--batch_size=4", f"--structure={STRUCTURES[task]}", f"--width={WIDTH}"]
    return {
        "evaluate": ["evaluate", f"--weights={model}", "--data=digits", f"--output_dir={output}", *told],
        "evaluate-segmentation": [
            *("evaluate-segmentation", f"--weights={model}", "--data=shapes", f"--output_dir={output}"),
            *("--nomasks", "--shown=1", *told),
        ],
        "predict": ["predict", photograph, f"--weights={model}", *told],
        "export": ["export", f"--weights={model}", f"--output={output}", "--nowarmup", *told],
        "convert": ["convert", f"--source={model}", f"--output={output}.weights.h5", f"--model={STRUCTURES[task]}", f"--width={WIDTH}"],
        "analyze": [
            *("analyze", model, "--data=digits", f"--output_dir={output}"),
            *("--images=1", "--path_images=0", "--lesion_images=0", "--crop_size=56", *told),
        ],
        "train": ["train", f"--weights={model}", "--data=digits", f"--output_dir={output}", *quick],
        "train-segmentation": [
            *("train-segmentation", f"--weights={model}", "--data=shapes", f"--output_dir={output}", *quick, "--crop_size=64"),
        ],
    }[command]  # fmt: skip


OF_TASK = {"evaluate": "classification", "predict": "classification", "evaluate-segmentation": "segmentation"}


def refusal(command, task, kind):
    """Words of the one line that refuses a model, or nothing where the command takes it."""
    if command == "convert":
        words = {"run": "", "keras": "", "weights": "already a Keras file", "original": ""}
        return words.get(kind, "conversion needs an original file")
    if kind == "saved_model" and command in ("export", "analyze", "train", "train-segmentation"):
        return "is a SavedModel version, which this command does not accept: use the run"
    if command in OF_TASK and OF_TASK[command] != task:
        other = "evaluate-segmentation" if task == "segmentation" else "evaluate"
        return f"is a {task} network: use {other}" if kind in ("run", "pretrained", "weights") else "not a"
    if command == "analyze" and task == "segmentation":
        return "segmentation" if kind != "keras" and kind != "original" else "outputs must be"
    return ""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("task", ["classification", "segmentation"])
@pytest.mark.parametrize(
    "command",
    [
        *("evaluate", "evaluate-segmentation", "predict", "export", "convert", "analyze"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("train", "train-segmentation")),
    ],
)
def test_every_command_takes_every_kind_of_model_or_says_what_to_give(
    command, task, kind, models, photograph, tmp_path, capsys, rewritten, autotuned
):
    given = arguments_of(command, models[task, kind], task, tmp_path / "out", photograph)
    expected = refusal(command, task, kind)
    keras.backend.clear_session(free_memory=False)
    if not expected:
        main(given)
        assert capsys.readouterr().out.strip()
        assert not rewritten and not autotuned
        return
    with pytest.raises(SystemExit) as stopped:
        main(given)
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(f"keras-widerresnet {command}: ")]
    assert stopped.value.code == 2 and len(said) == 1 and expected in said[0], said
    assert not list(tmp_path.iterdir())


def test_every_kind_of_model_gives_the_same_answer(models, photograph):
    """All six hold the same weights: of a photograph they give the same probabilities."""
    answers = []
    for kind in KINDS:
        given = arguments_of("predict", models["classification", kind], "classification", "", photograph)
        config = parsed(command_named("predict"), [*given[1:], "--top=10"])
        answers.append([score for _, _, score in sorted(predict(config)[0])])
    assert max(answers[0]) < 0.99
    for one in answers[1:]:
        np.testing.assert_allclose(one, answers[0], atol=1e-5)


def test_original_without_its_structure_says_what_to_give(models, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["predict", str(DIGITS / "run" / "curves.png"), f"--weights={models['classification', 'original']}.copy"])
    capsys.readouterr()
    changed = tmp_path / "mine.params"
    write_params(changed, {"arg:conv1a_weight": np.zeros((8, 3, 3, 3), np.float32)})
    with pytest.raises(SystemExit):
        main(["predict", str(DIGITS / "run" / "curves.png"), f"--weights={changed}"])
    assert f"--model is needed with --weights={changed}" in capsys.readouterr().err
