"""What the documentation site is made of besides the pages of this folder; MkDocs calls these functions (see mkdocs.yml).

The home page is README.md, the changelog and the contributors' guide are the files of the repository, the notebooks are those of
`examples/`, and the page of all flags is made of the commands' records. Links to files of the repository that are not part of the site
become plain text, so that one source serves both the repository and the site; a link to a file that does not exist fails the build.
"""

from __future__ import annotations

import importlib
import itertools
import pathlib
import posixpath
import re
import sys

from mkdocs import plugins
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = pathlib.Path(__file__).resolve().parent
ROOT = DOCS.parent
# Page of the site -> file of the repository.
INCLUDED = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}
FLAGS_PAGE = "flags.md"
EXAMPLES = "examples"
RESULTS = "docs/results/"  # reports of runs whose networks are not part of the repository
_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
_HTML_LINK = re.compile(r'<a(?P<before>[^>]*\s)href="(?P<target>[^"#]+)(?P<anchor>#[^"]*)?"(?P<after>[^>]*)>(?P<text>.*?)</a>', re.S)
_SOURCE = re.compile(r'(?P<before><(?:img|source)\b[^>]*\bsrc(?:set)?=")(?P<target>[^"]+)')


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are not files of this folder."""
    for page, source in INCLUDED.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    files.append(File.generated(config, FLAGS_PAGE, content=all_flags()))
    for notebook in sorted((ROOT / EXAMPLES).glob("*.ipynb")):
        files.append(File(f"{EXAMPLES}/{notebook.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    return files


# Before mkdocs-jupyter, which takes the notebooks out of the list of files.
on_files = plugins.event_priority(100)(on_files)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links relative to the repository become links of the site."""
    source = INCLUDED.get(page.file.src_uri)
    folder = "" if source else posixpath.dirname(f"docs/{page.file.src_uri}")

    def link(match: re.Match[str]) -> str:
        target = site_target(match["target"], folder, page.file.src_uri)
        if target is None:
            return match["text"]
        return f"{match['image']}[{match['text']}]({target}{match['anchor'] or ''})"

    def picture(match: re.Match[str]) -> str:
        return match["before"] + (site_target(match["target"], folder, page.file.src_uri) or match["target"])

    return _SOURCE.sub(picture, _LINK.sub(link, markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of notebooks, which MkDocs does not look at, become links of the site too.

    Raises:
        PluginError: for a link to a page that does not exist.
    """
    if not page.file.src_uri.endswith(".ipynb"):
        return html

    def link(match: re.Match[str]) -> str:
        target = site_target(match["target"], EXAMPLES, page.file.src_uri)
        if target is None:
            return match["text"]
        file = files.get_file_from_path(posixpath.normpath(posixpath.join(EXAMPLES, target)))
        if file:
            target = file.url_relative_to(page.file)
        elif ":" not in target:
            raise PluginError(f"{page.file.src_uri} has a link to {match['target']!r}, which does not exist")
        return f'<a{match["before"]}href="{target}{match["anchor"] or ""}"{match["after"]}>{match["text"]}</a>'

    return _HTML_LINK.sub(link, html)


def site_target(target: str, folder: str, page: str) -> str | None:
    """Where a link leads on the site.

    Args:
        target: the link's, without its anchor.
        folder: what it is relative to in the repository; empty for the repository's root.
        page: the page of the site that has the link.

    Returns:
        The link for the site; None where it leads to what the site does not have: another file or folder of the repository, or the
        network of a run.
    """
    if re.match(r"[a-z][a-z+.-]*:", target) or target.startswith("/"):
        return target
    path = posixpath.normpath(posixpath.join(folder, target))
    if path.startswith(RESULTS) and path.endswith(".keras"):
        return None
    included = {source: page for page, source in INCLUDED.items()}
    if path in included:
        there = included[path]
    elif path.startswith("docs/"):
        there = path.removeprefix("docs/")
    elif path.startswith(f"{EXAMPLES}/") and path.endswith(".ipynb"):
        there = path
    elif (ROOT / path).exists():
        return None
    else:
        return target  # MkDocs will name it
    return posixpath.relpath(there, posixpath.dirname(page) or ".")


def all_flags() -> str:
    """The page of the flags of every command and script."""
    sys.path.insert(0, str(ROOT))
    from keras_widerresnet.cli import COMMANDS, PROGRAM, command_named
    from keras_widerresnet.cli.reference import flags_page

    scripts = {}
    for script in sorted((ROOT / "scripts").glob("*.py")):
        module = re.search(r"^from ([\w.]+) import COMMAND$", script.read_text(), re.M)
        if module:
            scripts[importlib.import_module(module[1]).COMMAND] = f"python scripts/{script.name}"
    commands = {command_named(name): [f"{PROGRAM} {name}"] for name in COMMANDS}
    for command, call in scripts.items():
        commands.setdefault(command, []).append(call)
    flag_files = {f"scripts/flags/{path.name}": _leading_comment(path) for path in sorted(ROOT.glob("scripts/flags/*.flags"))}
    return flags_page(list(commands.items()), flag_files)


def _leading_comment(path: pathlib.Path) -> str:
    lines = itertools.takewhile(lambda line: line.startswith("#"), path.read_text().splitlines())
    return " ".join(line.lstrip("# ") for line in lines)
