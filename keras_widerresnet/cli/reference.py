"""The reference of all flags as a Markdown page, made of the commands' records."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from keras_widerresnet.cli.command import Command, flag_form, shown_default
from keras_widerresnet.options import Option, defaults_of, options_of, types_of

_INTRODUCTION = """# Flags

Every command takes its options as flags, `--name=value`. `--help` shows the same lists in the terminal.

- A flag that is true or false is written `--flip` or `--noflip`; a list is joined by commas, `--scales=256,320`.
- `--flagfile=FILE` reads flags from a file, one a line. Flags beside it take precedence, wherever it stands.
"""


def flags_page(commands: Sequence[tuple[Command, Sequence[str]]], flag_files: Mapping[str, str] | None = None) -> str:
    """The flags of some commands in Markdown: a section for each command, and in it a table for each group of flags.

    Args:
        commands: each command with the ways to call it, e.g. `("keras-widerresnet train", "python scripts/train.py")`.
        flag_files: path of each flag file -> what it is for; listed in a section of its own.

    Returns:
        The page's text, with headings that carry anchors such as `#train` and `#train-data`.
    """
    sections = [_INTRODUCTION, *(_section(command, calls) for command, calls in commands)]
    if flag_files:
        rows = [(f"`{path}`", _cell(what)) for path, what in flag_files.items()]
        sections.append(f"## Flag files {{ #flag-files }}\n\n{_table(('file', 'what it is for'), rows)}\n")
    return "\n".join(sections)


def _section(command: Command, calls: Sequence[str]) -> str:
    known, types, defaults = options_of(command.config), types_of(command.config), defaults_of(command.config)
    positional = [option.help for option in known.values() if option.is_positional]
    groups: dict[str, list[tuple[str, ...]]] = {}
    for name, option in known.items():
        if not option.is_positional:
            groups.setdefault(option.group, []).append(_row(name, types[name], defaults[name], option))
    anchor = _anchor(command.name)
    lines = [f"## {command.name} {{ #{anchor} }}", "", _text(command.summary), ""]
    lines += [f"Called as {' or '.join(f'`{call}`' for call in calls)}{_before(positional)}. Example:", ""]
    lines += ["```bash", command.example, "```", ""]
    for group, rows in groups.items():
        lines += [f"### {group} {{ #{anchor}-{_anchor(group)} }}", "", _table(("flag", "default", "meaning"), rows), ""]
    return "\n".join(lines)


def _before(positional: Sequence[str]) -> str:
    return f", with at least one {_text(' and '.join(positional))} before or after the flags" if positional else ""


def _row(name: str, kind: object, default: object, option: Option) -> tuple[str, ...]:
    choices = ", ".join(f"`{choice}`" for choice in option.choices if choice != "")
    form = f"--{name}" if choices else flag_form(name, kind, option)
    is_required = default is dataclasses.MISSING
    shown = f"`{text}`" if (text := shown_default(kind, default)) else ""
    return f"`{form}`", "required" if is_required else shown, _cell(f"{option.help} (values: {choices})" if choices else option.help)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _anchor(heading: str) -> str:
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


def _cell(text: str) -> str:
    return _text(text).replace("|", "&#124;")


def _text(text: str) -> str:
    """A help text as Markdown: what stands in backticks stays, signs that Markdown or HTML would read are escaped in the rest."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_\[\]])", r"\\\1", part).replace("<", "&lt;") for part in parts)
