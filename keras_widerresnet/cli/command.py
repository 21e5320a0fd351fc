"""Commands: flags generated from options, grouped help, one-line errors, and a single library call."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
import textwrap
import typing
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import flags, logging

from keras_widerresnet.cli import process
from keras_widerresnet.errors import InputError, RunStopped
from keras_widerresnet.options import Option, defaults_of, options_of, types_of

BAD_INPUT = 2
BROKEN_PIPE = 1
HELP_FLAGS = {"--help", "-h", "-help", "--helpfull", "--helpshort", "-helpfull", "-helpshort"}
WIDTH, INDENT = 110, 30
# Flags for an existing output that exclude each other: the command line overrides a flag file.
_OPPOSITES = {"overwrite": "resume", "resume": "overwrite"}
_NUMBERS = {int: "whole numbers", float: "numbers"}
_KINDS = {int: "N", float: "X", str: "TEXT"}
_DEFINE: dict[type, Callable[..., object]] = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Args:
        name: the word after `keras-widerresnet`.
        summary: what it does, in one sentence.
        example: an example command line.
        config: the record whose options are its flags.
        run: does the work; may import TensorFlow.
        check: raises `InputError` for errors that the options alone reveal; imports neither TensorFlow nor Keras.
    """

    name: str
    summary: str
    example: str
    config: type
    run: Callable[[Any], None]
    check: Callable[[Any], None] | None = None


@dataclasses.dataclass(frozen=True)
class NoOptions:
    """The record of a command without flags."""


def run_script(command: Command) -> None:
    """Runs a command with the arguments of this process."""
    execute(command, sys.argv[1:], os.path.basename(sys.argv[0]), owns_process=True)


def execute(command: Command, arguments: Sequence[str], program: str, *, owns_process: bool = False) -> None:
    """Runs a command; an invalid flag, an unexpected argument or an `InputError` ends it with one line and exit code 2.

    Args:
        command: the command.
        arguments: command-line arguments.
        program: the program's name in messages.
        owns_process: whether the process does nothing else, so that its standard error may be filtered.

    Raises:
        SystemExit: for invalid input, a stopped run, and after `--help`.
    """
    process.quieten_tensorflow()
    process.use_onednn()
    if HELP_FLAGS & set(arguments):
        print(help_text(command, program))
        sys.exit(0)
    if not flags.FLAGS.is_parsed():
        flags.FLAGS([program])  # sets the flags of libraries to their defaults
    process.log_plainly()
    logging.set_verbosity(logging.WARNING)  # for libraries that log through absl; our own loggers set their own level
    try:
        config = parsed(command, arguments)
        if command.check:
            command.check(config)
        if owns_process:
            process.filter_tensorflow()
        command.run(config)
        sys.stdout.flush()
    except (InputError, flags.Error) as error:
        fail(program, error)
    except RunStopped as error:
        fail(program, error, error.exit_code)
    except BrokenPipeError:  # the reader of the output, such as head, wanted no more
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(BROKEN_PIPE)


def fail(program: str, error: object, exit_code: int = BAD_INPUT) -> NoReturn:
    """Prints an error in one line and ends the process."""
    print(f"{program}: {error}", file=sys.stderr)
    sys.exit(exit_code)


def parsed(command: Command, arguments: Sequence[str]) -> Any:
    """Parses arguments into the command's record; flags on the command line take precedence over a flag file, in any order.

    Raises:
        InputError, flags.Error: for unknown arguments or invalid values.
    """
    values = flags.FlagValues()
    known, types = options_of(command.config), types_of(command.config)
    named = {name: option for name, option in known.items() if not option.is_positional}
    defaults = defaults_of(command.config)
    for name, option in named.items():
        _define(values, name, types[name], None if defaults[name] is dataclasses.MISSING else defaults[name], option)
    files, beside = _flag_files(arguments)
    try:
        lines = values.read_flags_from_files(files)
    except (OSError, ValueError) as error:  # not text, or an invalid file name in it
        paths = ", ".join(file.partition("=")[2] for file in files)
        raise InputError(f"The flag file cannot be read ({paths}): {error}") from None
    _, *stray = values([command.name, *_without_opposites(lines, beside), *beside])
    given = {name: _value(name, values[name].value, types[name]) for name in named}
    positional = [name for name in known if name not in named]
    if stray and not positional:
        raise InputError(f"options must be flags of the form --name=value. Received: {' '.join(stray)}")
    for name in positional:
        if not stray and defaults[name] is dataclasses.MISSING:
            raise InputError(f"give at least one {known[name].help}")
        given[name] = tuple(stray)
    missing = [name for name in named if given[name] is None and defaults[name] is dataclasses.MISSING]
    if missing:
        raise InputError(f"--{missing[0]} is needed: {named[missing[0]].help}")
    return command.config(**given)


def help_text(command: Command, program: str) -> str:
    """Returns the help text of a command: an example, and all flags by group."""
    known, types = options_of(command.config), types_of(command.config)
    defaults = defaults_of(command.config)
    groups: dict[str, list[str]] = {}
    for name, option in known.items():
        if not option.is_positional:
            groups.setdefault(option.group, []).append(_help_entry(name, types[name], defaults[name], option))
    positional = "".join(f" {option.help}..." for option in known.values() if option.is_positional)
    sections = [f"{heading}\n" + "\n".join(entries) for heading, entries in groups.items()]
    files = _wrapped("--flagfile=FILE", "read flags from a file, one per line; flags on the command line take precedence")
    return "\n\n".join(
        [command.summary, f"Example:\n  {command.example}", f"Usage: {program}{positional} [--name=value ...]\n{files}", *sections]
    )


def flag_form(name: str, kind: Any, option: Option) -> str:
    """How a flag is written: `--[no]flip`, `--width=X`, `--schedule=linear|cosine`, `--scales=N,...`."""
    plain = _plain(kind)
    if plain is bool:
        return f"--[no]{name}"
    values = "|".join(str(choice) for choice in option.choices if choice != "") if option.choices else _KINDS[plain]
    return f"--{name}={values}{',...' if _is_tuple(kind) else ''}"


def shown_default(kind: Any, default: Any) -> str:
    """A default as the command line takes it; empty where a flag has none."""
    if default in ("", None, (), dataclasses.MISSING):
        return ""
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else str(default)
    return shown.lower() if _plain(kind) is bool else shown


def _help_entry(name: str, kind: Any, default: Any, option: Option) -> str:
    head = flag_form(name, kind, option)
    if default is dataclasses.MISSING:
        return _wrapped(head, f"{option.help} (required)")
    shown = shown_default(kind, default)
    return _wrapped(head, f"{option.help} (default: {shown})" if shown else option.help)


def _wrapped(head: str, text: str) -> str:
    lines = textwrap.wrap(text, WIDTH - INDENT)
    if len(head) + 4 > INDENT:
        return "\n".join([f"  {head}", *(" " * INDENT + line for line in lines)])
    return "\n".join([f"  {head}".ljust(INDENT) + lines[0], *(" " * INDENT + line for line in lines[1:])])


def _define(values: flags.FlagValues, name: str, kind: Any, default: Any, option: Option) -> None:
    if _is_tuple(kind):
        flags.DEFINE_list(name, None if default is None else [str(one) for one in default], option.help, flag_values=values)
        return
    # The record checks choices and bounds, so that all interfaces report them alike.
    _DEFINE[_plain(kind)](name, default, option.help, flag_values=values)


def _value(name: str, value: Any, kind: Any) -> Any:
    if value is None or not _is_tuple(kind):
        return value
    plain = _plain(kind)
    try:
        return tuple(plain(one) for one in value)
    except ValueError:
        raise InputError(f"--{name} must be {_NUMBERS[plain]} separated by commas. Received: {','.join(value)}") from None


def _is_tuple(kind: Any) -> bool:
    return typing.get_origin(kind) is tuple


def _plain(kind: Any) -> type:
    """Returns `int` for `int`, `int | None` and `tuple[int, ...]`."""
    arguments = [one for one in typing.get_args(kind) if one not in (type(None), Ellipsis)]
    return arguments[0] if arguments else kind


def _flag_files(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Splits arguments into those that name flag files and the rest."""
    files, others, remaining = [], [], iter(arguments)
    for argument in remaining:
        if re.fullmatch(r"--?flagfile", argument):
            files.append(f"--flagfile={next(remaining, '')}")
        elif re.match(r"--?flagfile=", argument):
            files.append(argument)
        else:
            others.append(argument)
    return files, others


def _without_opposites(lines: Sequence[str], beside: Sequence[str]) -> list[str]:
    """Returns the lines of flag files without those that the command line contradicts."""
    said = {match[1] for one in beside if (match := re.fullmatch(r"--?(overwrite|resume)(?:=true|=1)?", one, re.I))}
    dropped = {_OPPOSITES[name] for name in said if _OPPOSITES[name] not in said}
    return [line for line in lines if re.sub(r"^--?|=.*$", "", line) not in dropped]
