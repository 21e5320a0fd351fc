"""Every command and every Python block of the documentation is run; see `documents` for how."""

import re

import documents
import pytest
from documents import PAGES, PYTHON, SHELL, Reader, Session, blocks_of, command_and_arguments, commands_of, spans_of, words_of

from keras_widerresnet.options import options_of

# Pages whose blocks take long even at small size: by default their commands' flags are checked, and all is run by `pytest -m slow`.
SLOW = ("docs/data.md", "docs/devices.md", "docs/performance.md", "docs/results.md")
_PLACEHOLDER = re.compile(r"…|\.\.\.|<[a-z_ ]+>")


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return Session(tmp_path_factory.mktemp("documents"))


@pytest.fixture
def reader(tmp_path, session, monkeypatch):
    import keras

    # TensorFlow reads its environment at the first operation: a page that changes it must not change this process.
    keras.layers.Conv2D(1, 1)(keras.ops.zeros((1, 1, 1, 1)))
    reader = Reader(tmp_path, session, monkeypatch)
    with reader.closing:
        yield reader


def run_blocks(page, reader, stood_in=False):
    for block in blocks_of(page):
        if block.is_run or (stood_in and block.is_stood_in):
            reader.run(block)


@pytest.mark.parametrize("page", [page for page in PAGES if page not in SLOW])
def test_blocks_run(page, reader):
    run_blocks(page, reader)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if page in SLOW or any(block.is_stood_in for block in blocks_of(page))])
def test_long_blocks_and_those_that_need_what_is_not_shipped_run(page, reader):
    run_blocks(page, reader, stood_in=True)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_has_a_known_language_and_a_reason_if_it_is_not_run(page):
    for block in blocks_of(page):
        assert block.language in (*SHELL, *PYTHON, *documents.OTHERS), f"{block}: language {block.language!r}"
        if block.needs:
            assert block.is_code, f"{block}: a block that is no code needs no reason"
            reason = documents.NEEDS.fullmatch(block.needs)
            assert reason, f"{block}: {block.needs!r} is no reason that is accepted"
            assert not reason["test"] or (documents.ROOT / reason["test"]).is_file(), block


def test_most_blocks_are_run():
    blocks = [block for page in PAGES for block in blocks_of(page) if block.is_code]
    left = [str(block) for block in blocks if not block.is_run and not block.is_stood_in]
    print(f"{len(blocks) - len(left)} blocks are run, {len(left)} are not: {', '.join(left)}")
    assert len(left) <= len(blocks) / 5, left


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_flags_that_they_are_called_with(page):
    """Those in the text and in tables too, and those of blocks that are not run; values may be placeholders there."""
    for text in spans_of(page):
        if re.match(r"(python scripts/\w+\.py|keras-widerresnet) ", text):
            check_flags(words_of(_PLACEHOLDER.sub("X", text.replace("'", ""))), text)
    for block in blocks_of(page):
        if block.language in SHELL:
            for command in commands_of(block):
                check_flags(words_of(command) if command.count('"') % 2 == 0 and "'" not in command else [], f"{block}: {command}")


def test_the_commands_own_examples_have_the_flags_that_they_are_called_with():
    for command in documents.scripts().values():
        assert command_and_arguments(words_of(command.example)), command.example
        check_flags(words_of(command.example), command.example)


def check_flags(words, text):
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if not words or (words[0] == "keras-widerresnet" and not words[1].islower()) or "|" in " ".join(words[:2]):
        return
    if words[0] in documents.CHECKED:
        documents.check_arguments(words)
        return
    called = command_and_arguments(words)
    if called is None:
        return
    command, arguments = called
    known = options_of(command.config)
    for argument in arguments:
        if match := re.match(r"--?(\w+)", argument):
            name = match[1]
            assert name in ("flagfile", "help") or name in known or name.removeprefix("no") in known, f"{text}: no flag --{name}"
        if match := re.match(r"--flagfile=(scripts/[^\s$]+)$", argument):
            assert (documents.ROOT / match[1]).is_file(), f"{text}: no {match[1]}"


MARKDOWN = """
# Page

<!-- not run: needs docker -->
```bash
docker run image \\
  --rm
```

1. In a list:

    ```bash
    keras-widerresnet list-weights  # all
    ```

```console
$ python scripts/describe_networks.py
| network |
```

```text
not a command
```
"""


def test_blocks_are_read_as_markdown_has_them(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "ROOT", tmp_path)
    (tmp_path / "page.md").write_text(MARKDOWN)
    first, second, third, fourth = blocks_of("page.md")
    assert (first.needs, first.line, commands_of(first)) == ("needs docker", 5, ["docker run image --rm"])
    assert second.needs == "" and words_of(commands_of(second)[0]) == ["keras-widerresnet", "list-weights"]
    assert commands_of(third) == ["python scripts/describe_networks.py"] and fourth.language == "text"
    (tmp_path / "page.md").write_text("<!-- not run: needs docker -->\n\nNo block.\n")
    with pytest.raises(ValueError, match="stands before no block"):
        blocks_of("page.md")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("python scripts/trian.py --data=digits", "There is no scripts/trian.py"),
        ("keras-widerresnet trian", "has no command 'trian'"),
        ("keras-widerresnet list-weights --all", "ends with 2"),
        ("python scripts/evaluate.py --weights=runs/never-trained --data=digits --output_dir=out", "ends with 2"),
        ('pip install ".[tensorflow-gpu]"', "extras are"),
        ("pytest tests/test_nothing.py", "test_nothing"),
        ("cat missing.txt", "missing.txt"),
    ],
)
def test_a_command_that_does_not_work_is_found(text, words, reader, capsys):
    with pytest.raises((AssertionError, ValueError), match=words):
        reader.run(documents.Block("page.md", 1, "bash", text))


def test_a_python_block_that_does_not_work_is_found(reader):
    reader.run(documents.Block("page.md", 1, "python", "import keras_widerresnet as kw\nx = 1\n"))
    reader.run(documents.Block("page.md", 5, "python", "assert x == 1 and kw.STRUCTURES\n"))  # blocks of a page share their names
    with pytest.raises(AttributeError):
        reader.run(documents.Block("page.md", 9, "python", "kw.WideResNetZ()\n"))


def test_loops_are_run_with_what_they_expand_to(reader, capsys):
    block = documents.Block("page.md", 1, "bash", "for NAME in train predict; do\n  keras-widerresnet $NAME --help\ndone\n")
    reader.run(block)
    shown = capsys.readouterr().out
    assert "--output_dir=TEXT" in shown and "--served_model=TEXT" in shown
    with pytest.raises(AssertionError, match="ends with 2"):
        reader.run(documents.Block("page.md", 1, "bash", "for N in 1 2; do\n  python scripts/list_weights.py --all=$N\ndone\n"))


@pytest.mark.parametrize(
    ("needs", "is_run", "is_stood_in"),
    [
        ("", True, False),
        ("needs docker", False, False),
        ("needs the official weights", False, True),
        ("needs the official weights, VOC 2012 and GPUs", False, True),
        ("needs the official weights and ImageNet", False, False),
        ("needs CIFAR-10 as class folders, and two hours", False, True),
        ("needs two machines", False, False),
        ("changes the environment; .ci/run runs it in a fresh one", True, False),
        ("needs the server above", True, False),
        ("starts two processes that listen on ports; tests/test_faults.py does it", False, False),
    ],
)
def test_reasons_for_what_is_not_run(needs, is_run, is_stood_in):
    block = documents.Block("page.md", 1, "bash", "", needs)
    assert (block.is_run, block.is_stood_in) == (is_run, is_stood_in)
    assert not needs or documents.NEEDS.fullmatch(needs)
    assert not documents.NEEDS.fullmatch("it does not work yet")


@pytest.mark.parametrize("name", list(documents.MADE))
def test_data_that_a_page_names_is_made(name, reader):
    from keras_widerresnet.tasks.classification.data import load_data
    from keras_widerresnet.tasks.segmentation.data import load_segmentation_data

    load = load_segmentation_data if name in documents.LAYOUTS_OF_MASKS else load_data
    task = "segmentation" if load is load_segmentation_data else "classification"
    options = ",names=sky+road,ignore=11" if name == "pairs" else ""
    data = load(reader.data(f"{name}:PATH{options}", task))
    assert data.train.size >= 4 and data.test.size >= 4
