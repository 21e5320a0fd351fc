"""The documentation site: every page is in its navigation, the page of flags has every flag, links lead somewhere."""

import importlib
import re
import subprocess
import sys

import pytest
import yaml
from markdown_it import MarkdownIt
from project import ROOT

from keras_widerresnet.cli import COMMANDS, command_named
from keras_widerresnet.cli.reference import flags_page
from keras_widerresnet.options import options_of

# Made when the site is built, see docs/hooks.py.
MADE = {"index.md", "changelog.md", "contributing.md", "flags.md"}


def navigation(entries):
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [value] if isinstance(value, str) else navigation(value)


class _Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without the objects that its tags name."""


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: suffix)


def site():
    return yaml.load((ROOT / "mkdocs.yml").read_text(), _Loader)


def test_every_page_is_in_the_navigation_once():
    listed = list(navigation(site()["nav"]))
    pages = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").glob("*.md")}
    notebooks = {path.relative_to(ROOT).as_posix() for path in (ROOT / "examples").glob("*.ipynb")}
    assert len(listed) == len(set(listed))
    assert set(listed) == pages | notebooks | MADE
    assert not MADE & pages


def test_the_api_page_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text()
    public = re.findall(r" as (\w+)$", (ROOT / "keras_widerresnet" / "__init__.pyi").read_text(), re.M)
    assert len(public) > 15
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []


def test_the_site_asks_nothing_of_the_network():
    theme = site()["theme"]
    assert theme["font"] is False
    style = (ROOT / "docs" / "assets" / "site.css").read_text()
    assert "http" not in style and "extra_javascript" not in site()


def rows_of(markdown):
    """The cells of the tables' rows, as text."""
    tokens = MarkdownIt().enable("table").parse(markdown)
    cells = ["".join(child.content for child in token.children) for token in tokens if token.type == "inline" and token.level == 4]
    rows = [cells[start : start + 3] for start in range(0, len(cells), 3)]
    return [row for row in rows if row[0].startswith("--")]


def test_the_page_of_flags_has_every_flag_of_every_command_with_its_default_and_help():
    commands = [(command_named(name), [f"keras-widerresnet {name}"]) for name in COMMANDS]
    page = flags_page(commands, {"scripts/flags/digits.flags": "The first run"})
    sections = dict(re.findall(r"^## (\S+) \{ #\S+ \}\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    assert set(sections) >= set(COMMANDS)
    for command, _ in commands:
        section = sections[command.name]
        rows = rows_of(section)
        flags = {name: one for name, one in options_of(command.config).items() if not one.is_positional}
        assert len(rows) == len(flags), command.name
        for name, one in flags.items():
            (cells,) = (cells for cells in rows if re.fullmatch(rf"--(\[no\])?{name}(=.*)?", cells[0]))
            assert cells[2].startswith(one.help)  # as it is read, whatever is escaped for Markdown
            assert all(str(choice) in cells[2] for choice in one.choices)
        for group in {one.group for one in flags.values()}:
            assert f"### {group} {{" in section
    train = sections["train"]
    assert "| `--[no]flip` | `true` |" in train and "| `--output_dir=TEXT` | required |" in train
    assert "`scripts/flags/digits.flags`" in page


@pytest.fixture
def hooks(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return importlib.import_module("hooks")


@pytest.mark.slow  # needs the extra docs
@pytest.mark.parametrize(
    ("target", "folder", "page", "there"),
    [
        ("docs/serving.md", "", "index.md", "serving.md"),
        ("docs/study_depth.png", "", "index.md", "study_depth.png"),
        ("CHANGELOG.md", "", "index.md", "changelog.md"),
        ("../CONTRIBUTING.md", "docs", "serving.md", "contributing.md"),
        ("../README.md", "docs", "serving.md", "index.md"),
        ("performance.md", "docs", "serving.md", "performance.md"),
        ("../examples/effective_depth.ipynb", "docs", "api.md", "examples/effective_depth.ipynb"),
        ("../docs/serving.md", "examples", "examples/effective_depth.ipynb", "../serving.md"),
        ("effective_depth.ipynb", "examples", "examples/export_and_ask.ipynb", "effective_depth.ipynb"),
        ("../scripts/train.py", "docs", "serving.md", None),
        ("LICENSE", "", "index.md", None),
        ("final.keras", "docs/results/shapes", "results/shapes/report.md", None),
        ("curves.png", "docs/results/shapes", "results/shapes/report.md", "curves.png"),
        ("https://arxiv.org/abs/1611.10080", "", "index.md", "https://arxiv.org/abs/1611.10080"),
        ("missing.py", "", "index.md", "missing.py"),
    ],
)
def test_links_of_the_repository_become_links_of_the_site(hooks, target, folder, page, there):
    assert hooks.site_target(target, folder, page) == there


@pytest.mark.slow  # needs the extra docs
def test_the_site_is_built_without_a_warning(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix(): path.read_text() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "flags.html", "api.html", "contributing.html"} <= set(pages)
    assert "WiderResNet" in pages["api.html"] and "output_stride" in pages["api.html"]
    for name, page in pages.items():  # nothing is loaded from elsewhere
        assert not re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://[^"]+"', page), name
