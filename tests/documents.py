"""The commands and Python blocks of the documentation: where they stand, and how they are run at small size.

Blocks are taken from the pages as they are written. What is done differently from what a reader would do is in the tables of this
module, and nowhere else:

- `SHORTER` appends flags to commands that would take long: one epoch of one step, narrow networks, small images.
- Python blocks train for one epoch; `photographs` are two small RGB images, where a page does not make them.
- `STAND_INS`: names of pretrained weights, which are not shipped, become networks of random weights.
- Folders of data, photographs and original checkpoints that a page names and does not make are made, tiny, of the kind that the command
  takes. A run that another page trains is put in its place by one that was trained here.
- `CHECKED` programs are not run: installing is what `.ci/run` does, and pytest does not run itself. Their arguments are looked at.
- A server on port 8500 or 8501 is that of `serving_server.py`, on free ports.
- A training command that several pages have, with whatever output folder, is run on the first of them.
- Commands that change the whole process, `ISOLATED`, get a process of their own; other commands of this package share one.

A block that a reader here could not run has a comment on the line before its fence: `<!-- not run: needs docker -->`. `NEEDS` are the
reasons that are accepted. Where something stands in for all that a block needs, such as random weights and tiny data, `pytest -m slow`
runs it after all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import importlib
import os
import pathlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys

import numpy as np
import photographs
from markdown_it import MarkdownIt
from PIL import Image
from project import ROOT, project

from keras_widerresnet.cli import COMMANDS, command_named, main
from keras_widerresnet.cli.command import parsed
from keras_widerresnet.data.names import SEGMENTATION, label_map_of, path_and_options
from keras_widerresnet.label_maps import LABEL_MAPS
from keras_widerresnet.structures import find_structure

# `examples/*.ipynb` have a test of their own.
PAGES = ["README.md", "CONTRIBUTING.md"]
PAGES += sorted(str(path.relative_to(ROOT)) for path in (*ROOT.glob("docs/*.md"), *ROOT.glob("*/README.md")))
SHELL, PYTHON = ("", "bash", "console", "sh", "shell"), ("py", "python")
OTHERS = ("bibtex", "csv", "html", "ini", "json", "latex", "markdown", "mermaid", "protobuf", "text", "toml", "yaml")
_STOOD_IN = (
    *("the official weights", "ADE20K", "CamVid", "CIFAR-10", "Cityscapes", "PASCAL Context", "VOC 2012", "Fashion-MNIST", "a GPU", "GPUs"),
    *(r"(?:half )?an hour", r"(?:two|three|four|\d+) hours", r"\d+ minutes", r"a long run of (?:several|\d+) (?:minutes|hours)"),
)
_ABSENT = (
    *("docker", "Docker", "ImageNet", "a TPU", "several machines", "two machines", "SLURM", "a cluster", "a cloud", "JAX", "PyTorch"),
    *("a data set that is not shipped", "an account"),
)
# Marks of blocks of `CHECKED` commands, and of those that a server of the tests lets run all the same.
_AT_HAND = (
    *(r"changes the environment; \.ci/run runs it in a fresh one", "needs the address of the repository", "it would run itself"),
    *(r"needs (?:a|the) server(?: above)?", r"does not end by itself; tests/test_serving\.py starts it"),
)


def _needs(things) -> str:
    thing = f"(?:{'|'.join(things)})(?: as class folders)?"
    return rf"(?:needs )?{thing}(?:(?:,|,? and| or) {thing})*"


_OTHERS = (r"[^;]+; (?P<test>tests/test_\w+\.py) (?:does|starts|runs) it", r"(?:loads|builds) .+ at full width(?:, .+)?")
NEEDS = re.compile("|".join((_needs((*_STOOD_IN, *_ABSENT)), *_AT_HAND, *_OTHERS)))
_MARK = re.compile(r"<!--\s*not run:\s*(.*?)\s*-->")

NARROW = 0.0625
_SMALL = 64
_TRAINING = ("--epochs=1", "--warmup_epochs=0", "--steps_per_epoch=1", "--batch_size=4", f"--width={NARROW}")
SHORTER = {
    "train": _TRAINING,
    "train-segmentation": _TRAINING,
    "analyze": ("--images=2", "--path_images=2", "--path_samples=1", "--lesion_images=8", "--lesion_samples=1"),
    "load-test": ("--requests=4", "--concurrency=2"),
    "study_depth": (
        *("--depths=1,2", "--widths=0.0625,0.125", "--seeds=1", "--budgets=1", "--steps_per_epoch=1"),
        *("--learning_rates=0.1", "--deep_epochs=1", "--images=2"),
    ),
    "benchmark": ("--passes=1", "--repeats=1", "--seconds=0.1", "--batch_sizes=1", "--images=16", f"--width={NARROW}", f"--size={_SMALL}"),
}
_SIDES = re.compile(r"^--(scales|sizes)=[\d,]+$")
STAND_INS = {"imagenet": "classifier", "imagenet-a": "classifier", "imagenet-a1": "classifier", "imagenet-inplace-abn": "classifier"}
STAND_INS |= {"voc": "segmenter", "voc-coco": "segmenter", "cityscapes": "segmenter", "ade20k": "segmenter"}
ISOLATED = re.compile(r"--(strategy|logical_devices|mixed_precision|jit_compile|deterministic|data_service)\b")
CHECKED = ("cd", "git", "mkdocs", "mypy", "pip", "pre-commit", "pytest", "python3", "ruff", "source", "tensorboard", "twine", ".")
_SERVER = re.compile(r"\b(localhost|127\.0\.0\.1):(8500|8501)\b")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language, its text, and why it is not run (empty where it is)."""

    page: str
    line: int
    language: str
    text: str
    needs: str = ""

    @property
    def is_code(self) -> bool:
        """Whether it is commands or Python code."""
        return self.language in (*SHELL, *PYTHON)

    @property
    def is_run(self) -> bool:
        """Whether it is run with its page."""
        return self.is_code and (not self.needs or bool(re.fullmatch("|".join(_AT_HAND), self.needs)))

    @property
    def is_stood_in(self) -> bool:
        """Whether all that it needs has something that stands in for it, so that it is run by `pytest -m slow`."""
        return self.is_code and bool(re.fullmatch(_needs(_STOOD_IN), self.needs))

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str) -> list[Block]:
    """The fenced blocks of a page in their order.

    Raises:
        ValueError: for a mark that stands before no block.
    """
    blocks, mark = [], None
    for token in MarkdownIt().parse((ROOT / page).read_text()):
        if token.type == "fence":
            blocks.append(Block(page, token.map[0] + 1, token.info.split(" ")[0], token.content, mark or ""))
            mark = None
        elif mark is not None:
            raise ValueError(f"{page}: the mark 'not run: {mark}' stands before no block")
        elif token.type == "html_block" and (match := _MARK.search(token.content)):
            mark = match[1]
    if mark is not None:
        raise ValueError(f"{page}: the mark 'not run: {mark}' stands before no block")
    return blocks


def spans_of(page: str) -> list[str]:
    """The code spans of a page's text and tables."""
    tokens = MarkdownIt().enable("table").parse((ROOT / page).read_text())
    return [child.content for token in tokens for child in token.children or () if child.type == "code_inline"]


def commands_of(block: Block) -> list[str]:
    """The commands of a shell block, one a string, lines that a backslash continues joined."""
    text = block.text
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]


def words_of(command: str) -> list[str]:
    """A command's words, without a comment and the `&` of the background at its end."""
    words = shlex.split(command, comments=True)
    return words[:-1] if words[-1:] == ["&"] else words


def scripts() -> dict[str, object]:
    """Path of each script -> its command."""
    found = {}
    for path in sorted((ROOT / "scripts").glob("*.py")):
        module = re.search(r"^from ([\w.]+) import COMMAND$", path.read_text(), re.M)
        found[f"scripts/{path.name}"] = importlib.import_module(module[1]).COMMAND
    return found


def command_and_arguments(words: list[str]):
    """The package's command that some words call, and its arguments; None where they call another program."""
    if words[:1] == ["keras-widerresnet"] and words[1:] and words[1] != "--help":
        return _by_name(words[1]), words[2:]
    if words[:3] == ["python", "-m", "keras_widerresnet"] and words[3:]:
        return _by_name(words[3]), words[4:]
    if words[:1] == ["python"] and words[1:2] and words[1].startswith("scripts/"):
        if words[1] not in scripts():
            raise ValueError(f"There is no {words[1]}")
        return scripts()[words[1]], words[2:]
    return None


def _by_name(name: str):
    if name not in COMMANDS:
        raise ValueError(f"keras-widerresnet has no command {name!r}")
    return command_named(name)


def outputs() -> set[str]:
    """The folders and files that the documentation's commands and flag files write, by the flags that name them."""
    texts = [block.text for page in PAGES for block in blocks_of(page)] + [span for page in PAGES for span in spans_of(page)]
    texts += [path.read_text() for path in (ROOT / "scripts" / "flags").glob("*.flags")]
    return {found.rstrip("/") for text in texts for found in re.findall(r"--output(?:_dir)?=(\S+)", text)}


class Session:
    """What the pages share: the networks that stand in for others, each made when it is first needed."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.outputs = outputs()
        self.trained: dict[str, pathlib.Path] = {}

    def run_directory(self, task: str) -> pathlib.Path:
        """A finished run of a task."""
        train, flag_file = {"classification": ("train", "digits"), "segmentation": ("train-segmentation", "shapes")}[task]
        if trained := next((place for run, place in self.trained.items() if run.startswith(f"{train} ")), None):
            return trained
        place = self.folder / "runs" / task
        if not place.is_dir():
            main([train, f"--flagfile={ROOT}/scripts/flags/{flag_file}.flags", f"--output_dir={place}", *SHORTER[train]])
        return place

    def train(self, command, arguments: list[str], call) -> None:
        """Trains by calling `call`, or takes the run that the same command left on another page."""
        config = parsed(command, arguments)
        output, run = pathlib.Path(config.output_dir), f"{command.name} {dataclasses.replace(config, output_dir='runs/any')}"
        if run in self.trained and not output.exists():
            shutil.copytree(self.trained[run], output)
            return
        call()
        if run not in self.trained and output.is_dir():
            self.trained[run] = shutil.copytree(output, self.folder / "trained" / str(len(self.trained)))

    def network(self, kind: str) -> pathlib.Path:
        """A saved network: `classifier`, Model A1 of 1000 classes, or `segmenter`, of 21."""
        place = self.folder / f"{kind}.keras"
        if not place.exists():
            import keras_widerresnet as kw

            build = kw.WideResNetA1 if kind == "classifier" else kw.WideResNetFCN
            build(width=NARROW).save(place)
        return place

    def original(self) -> pathlib.Path:
        """An original checkpoint of a narrow Model A1."""
        from refparams import array

        import keras_widerresnet as kw
        from keras_widerresnet.weights.mxnet_params import write_params
        from keras_widerresnet.weights.official import official_shapes

        place = self.folder / "original.params"
        if not place.exists():
            shapes = official_shapes(kw.WideResNetA1(width=NARROW))
            write_params(place, {f"arg:{name}": array(name, shape) for name, shape in shapes.items()})
        return place


class Reader:
    """Someone who follows a page in a folder of their own: the working folder, the names that Python blocks define, a server.

    Args:
        folder: an empty folder.
        session: what the pages share.
        patch: pytest's `monkeypatch`, which undoes what a page does to the process.
    """

    def __init__(self, folder: pathlib.Path, session: Session, patch):
        self.folder, self.session, self.patch = folder, session, patch
        self.names: dict[str, object] = {
            "__name__": "__main__",
            "photographs": np.stack([p[:_SMALL, :_SMALL] for p in photographs.PHOTOGRAPHS]),
        }
        self.closing = contextlib.ExitStack()  # closed by the test
        self.closing.callback(_restore, dict(os.environ))
        self.ports: dict[str, int] = {}
        self.served = ("saved_models/digits", "digits")
        for name in ("benchmarks", "docs", "examples", "pyproject.toml", "research", "scripts", "tests"):
            if (ROOT / name).exists():
                (folder / name).symlink_to(ROOT / name)
        shutil.copytree(ROOT / "saved_models" / "digits", folder / "saved_models" / "digits")
        patch.chdir(folder)
        patch.setenv("KERAS_WIDERRESNET_HOME", str(folder / "home"))
        patch.setenv("MPLBACKEND", "Agg")
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        patch.setattr(sys, "path", [str(ROOT), *sys.path])

    def run(self, block: Block) -> None:
        """Runs one block.

        Raises:
            AssertionError: if a command fails.
            Exception: that a Python block raises.
        """
        if block.language in PYTHON:
            code = compile(self._with_stand_ins(block.text), str(block), "exec")
            exec(code, self.names)
            return
        if re.search(r"^\s*(for|while|if|case)\b|<<|\|\s*$", block.text, re.M):
            self._script(block)
            return
        for command in commands_of(block):
            for part in _joined_by_and(command):
                self._command(part, block)

    def _script(self, block: Block) -> None:
        """Runs a block with loops or conditions; the commands of this package in it are taken down by bash and run here afterwards."""
        taken = self.folder / "commands.txt"
        taken.write_text("")
        functions = (f"{name}() {{ printf '%q ' {name} \"$@\" >> {taken}; echo >> {taken}; }}" for name in ("python", "keras-widerresnet"))
        self._bash("\n".join((*functions, block.text)), block)
        for command in taken.read_text().splitlines():
            self._command(command, block)

    def _command(self, command: str, block: Block) -> None:
        if match := re.fullmatch(r"export ((?:\w+=\S*|\w+='[^']*'|\w+=\"[^\"]*\")(?: .*)?)", command):
            for word in shlex.split(match[1]):
                name, _, value = word.partition("=")
                self.patch.setenv(name, value)
            return
        words = words_of(command)
        variables = [word for word in words if re.match(r"[A-Z_]+=", word)] if re.match(r"[A-Z_]+=", command) else []
        with self.patch.context() as patch:
            for word in variables:
                name, _, value = word.partition("=")
                patch.setenv(name, value)
            words = words[len(variables) :]
            if words in (["keras-widerresnet"], ["keras-widerresnet", "--help"]):
                main(words[1:])
            elif called := command_and_arguments(words):
                self._ours(words, *called, block, isolated=bool(variables))
            elif words[:2] == ["python", "tests/serving_server.py"]:
                self._serve(words[2], dict(word[2:].split("=") for word in words[3:])["served_model"])
            elif words[0] in CHECKED or words[:3] == ["python", "-m", "pip"]:
                check_arguments(words)
            else:
                self._bash(command, block)

    def _ours(self, words: list[str], command, arguments: list[str], block: Block, *, isolated: bool) -> None:
        arguments = self._at_hand(command.name, [self._with_ports(word) for word in arguments])
        shorter = [] if "--help" in arguments else self._shorter(command, arguments)
        if isolated or ISOLATED.search(" ".join(arguments)):
            program = [sys.executable, *words[1:2]] if words[0] == "python" else [sys.executable, "-m", "keras_widerresnet", words[1]]
            ran = subprocess.run([*program, *arguments, *shorter], capture_output=True, text=True, cwd=self.folder)
            assert ran.returncode == 0, f"{block}: {' '.join(words)}\n{ran.stderr[-2000:]}"
            return

        def call() -> None:
            code = _exit_code(lambda: self._in_this_process(words, [*arguments, *shorter]))
            assert not code, f"{block}: {' '.join(words)} ends with {code}"

        if command.name in ("train", "train-segmentation") and "--help" not in arguments:
            self.session.train(command, [*arguments, *shorter], call)
        else:
            call()

    def _in_this_process(self, words: list[str], arguments: list[str]) -> None:
        if words[0] == "keras-widerresnet" or words[1] == "-m":
            main([words[1] if words[0] == "keras-widerresnet" else words[3], *arguments])
            return
        self.patch.setattr(sys, "argv", [words[1], *arguments])
        runpy.run_path(words[1], run_name="__main__")

    def _shorter(self, command, arguments: list[str]) -> list[str]:
        flags = list(SHORTER.get(command.name, ()))
        if command.name in ("train", "train-segmentation"):
            config = parsed(command, arguments)
            if config.weights in STAND_INS:
                flags.append(f"--weights={self.session.network(STAND_INS[config.weights])}")
            if find_structure(config.structure).crop_size > _SMALL:
                flags.append(f"--crop_size={_SMALL}")
        return flags

    def _at_hand(self, name: str, arguments: list[str]) -> list[str]:
        """The arguments with what a reader would have, and this folder has not, made or put in its place."""
        stands_in = False
        at_hand: list[str] = []
        task = "segmentation" if "segmentation" in name else "classification"
        for argument in arguments:
            flag, is_flag, value = argument.partition("=")
            if not argument.startswith("-"):
                at_hand += self._file(argument, name, task)
            elif flag in ("--data", "--images") and is_flag and ":" in value:
                at_hand.append(f"{flag}={self.data(value, task)}")
            elif flag == "--weights" and value in STAND_INS:
                at_hand.append(f"--weights={self.session.network(STAND_INS[value])}")
                stands_in = True
            elif flag == "--weights":
                self._model(value, task)
                at_hand.append(argument)
            elif flag == "--source" and not os.path.exists(value):
                at_hand += [f"--source={self.session.original()}", f"--width={NARROW}"]
                stands_in = True
            elif _SIDES.match(argument):
                at_hand.append(f"{flag}={_SMALL}")
            else:
                at_hand.append(argument)
        if stands_in and name == "convert":
            at_hand = [re.sub(r"^--model=imagenet-a1$", "--model=A1", one) for one in at_hand]
            at_hand += [] if any(one.startswith("--output=") for one in at_hand) else ["--output=converted.weights.h5"]
        elif stands_in:
            at_hand = [one for one in at_hand if not one.startswith("--model=")]
        return at_hand

    def _file(self, path: str, command: str, task: str) -> list[str]:
        if re.search(r"\.(jpe?g|png)$", path, re.I) and command in ("predict", "activation-maps", "load-test", "benchmark"):
            if not glob.glob(path):
                place = self.folder / path.replace("*", "photograph")
                place.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(photographs.PHOTOGRAPHS[0]).save(place)
            return sorted(glob.glob(path))
        if command in ("analyze", "compare-runs") and "*" not in path:
            self._model(path, task)
        return sorted(glob.glob(path)) or [path]

    def _model(self, path: str, task: str) -> None:
        """Puts a run where a page names one that it does not train, if the documentation trains it at all."""
        if os.path.exists(path):
            return
        folder = path.rstrip("/") if not path.endswith(".keras") else os.path.dirname(path)
        if folder in self.session.outputs:
            shutil.copytree(self.session.run_directory(task), folder, dirs_exist_ok=True)

    def data(self, name: str, task: str) -> str:
        """A data set's name, with a tiny data set of its kind where there is none."""
        kind, _, argument = name.partition(":")
        path, comma, options = argument.partition(",")
        if kind not in MADE or os.path.isdir(os.path.expanduser(path)):
            return name
        place = pathlib.Path(f"{kind}_{re.sub(r'[^A-Za-z0-9]+', '_', path)}")
        if not place.exists():
            MADE[kind](place, argument)
        return f"{kind}:{place}{comma}{options}"

    def _with_stand_ins(self, code: str) -> str:
        """Python code with networks of random weights in place of pretrained ones, and one epoch in place of several."""
        names = "|".join(sorted(STAND_INS, key=len, reverse=True))
        code = re.sub(r"\bepochs=\d+", "epochs=1", code)
        return re.sub(rf'\bweights="(?:{names})"', f"weights=None, width={NARROW}", code)

    def _serve(self, folder: str, name: str) -> None:
        import serving_server

        self.served = (folder, name)
        rest, grpc = self.closing.enter_context(serving_server.serving(folder, name, grpc_port=0))
        self.ports = {"8501": rest, "8500": grpc}

    def _with_ports(self, text: str) -> str:
        if _SERVER.search(text) and not self.ports:
            self._serve(*self.served)
        return _SERVER.sub(lambda match: f"127.0.0.1:{self.ports[match[2]]}", text)

    def _bash(self, text: str, block: Block) -> None:
        for image in re.findall(r"[\w./-]+\.jpg\b", text):
            self._file(image, "predict", "")
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self._with_ports(text)], capture_output=True, text=True, cwd=self.folder, timeout=300
        )
        assert ran.returncode == 0, f"{block}: {text}\n{ran.stdout[-1000:]}{ran.stderr[-1000:]}"


def check_arguments(words: list[str]) -> None:
    """What can be told of a command that is not run: extras, test files and configuration that it names are there.

    Raises:
        AssertionError: if something is not.
    """
    text = " ".join(words)
    if "pip" in words:
        extras = project()["optional-dependencies"]
        for names in re.findall(r"(?:\.|keras_widerresnet)\[([\w,-]+)\]", text):
            assert set(names.split(",")) <= set(extras), f"{text}: extras are {', '.join(extras)}"
    for word in words:
        if word.startswith(("tests/", "docs/", "scripts/")):
            assert (ROOT / word.partition("::")[0]).exists(), text
    if words[0] == "mkdocs":
        assert (ROOT / "mkdocs.yml").is_file()


def _joined_by_and(command: str) -> list[str]:
    """The parts of `first && second`, where none of them is quoted."""
    return [part.strip() for part in command.split(" && ")] if "'" not in command else [command]


def _restore(environment: dict[str, str]) -> None:
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)


def _exit_code(call) -> object:
    import keras

    policy = keras.config.dtype_policy()
    try:
        call()
    except SystemExit as stopped:
        return stopped.code
    finally:
        keras.config.set_dtype_policy(policy)
    return 0


def _made_folder(root: pathlib.Path, _: str) -> None:
    photographs.write_folder(root, count=10)


def _made_idx(root: pathlib.Path, _: str) -> None:
    root.mkdir(parents=True)
    for part, count in (("train", 40), ("t10k", 20)):
        images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 10
        for array, name in ((images, "images-idx3-ubyte"), (labels, "labels-idx1-ubyte")):
            header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
            (root / f"{part}-{name}").write_bytes(header + array.tobytes())


def _made_tfrecord(root: pathlib.Path, _: str) -> None:
    _exit_code(lambda: main(["write-tfrecords", "--data=digits", f"--output={root}", "--train_shards=2", "--test_shards=1"]))


# Where the images and masks of each kind lie: by part and number.
LAYOUTS_OF_MASKS = {
    "voc": ("JPEGImages/{part}{n}.jpg", "SegmentationClass/{part}{n}.png", ("train", "val"), "ImageSets/Segmentation/{part}.txt"),
    "pascal_context": (
        *("JPEGImages/{part}{n}.jpg", "SegmentationClassContext/{part}{n}.png", ("train", "val")),
        "ImageSets/SegmentationContext/{part}.txt",
    ),
    "cityscapes": ("leftImg8bit/{part}/city/{n}_leftImg8bit.png", "gtFine/{part}/city/{n}_gtFine_labelIds.png", ("train", "val"), ""),
    "ade20k": ("images/{part}/{n}.jpg", "annotations/{part}/{n}.png", ("training", "validation"), ""),
    "pairs": ("{part}/{n}.png", "{part}annot/{n}.png", ("train", "test"), ""),
}


def _made_masks(kind: str):
    def make(root: pathlib.Path, argument: str) -> None:
        image, mask, parts, listing = LAYOUTS_OF_MASKS[kind]
        labels = label_map_of(path_and_options(argument, SEGMENTATION[kind])[1]) if kind == "pairs" else LABEL_MAPS[kind]
        stored = np.asarray(labels.stored_ids, np.uint8)
        for part in parts:
            for number in range(4):
                places = [root / form.format(part=part, n=number) for form in (image, mask)]
                for place in places:
                    place.parent.mkdir(parents=True, exist_ok=True)
                pixels = photographs.PHOTOGRAPHS[number % 2][: 2 * _SMALL, 20 * number :][:, : 2 * _SMALL]
                Image.fromarray(pixels).save(places[0])
                Image.fromarray(np.resize(np.repeat(stored, 2), pixels.shape[:2])).save(places[1])
            if listing:
                place = root / listing.format(part=part)
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text("".join(f"{part}{number}\n" for number in range(4)))

    return make


MADE = {"folder": _made_folder, "idx": _made_idx, "tfrecord": _made_tfrecord, **{kind: _made_masks(kind) for kind in LAYOUTS_OF_MASKS}}
