"""Options as fields of typed dataclasses: each is declared once, and the command-line flags are generated from them."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

from keras_widerresnet.errors import InputError

# Headings of `--help` that several commands share.
MODEL, DATA, TESTING, OUTPUT = "Model", "Data", "Testing", "Output"
_KEY = "option"

Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True)
class Option:
    """Metadata of one field of a record.

    Args:
        help: human-readable description in one line, without a full stop if it is a fragment.
        group: heading under which `--help` lists it.
        choices: the allowed values; for a tuple those of its entries.
        least, most: inclusive bounds of a number.
        repeats: whether the option is needed to repeat a run, and so belongs in the run's flag file.
        then: the value that matches runs from before the option existed; None if that is its default.
        is_positional: whether it is a positional argument rather than a flag.
    """

    help: str
    group: str
    choices: tuple[object, ...] = ()
    least: float | None = None
    most: float | None = None
    repeats: bool = True
    then: Any = None
    is_positional: bool = False


def option(default: Any = dataclasses.MISSING, *, help: str, group: str, **facts: Any) -> Any:
    """Returns a dataclass field with its `Option`; without a default the option is required."""
    metadata = {_KEY: Option(help, group, **facts)}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def redefined(record: type, name: str, default: Any) -> Any:
    """Returns the field of a base record with another default."""
    return dataclasses.field(default=default, metadata={_KEY: options_of(record)[name]})


def options_of(record: type | Any) -> dict[str, Option]:
    """Returns name -> `Option` for a record or its class, in the order of its fields."""
    return {field.name: field.metadata[_KEY] for field in dataclasses.fields(record) if _KEY in field.metadata}


def defaults_of(record: type | Any) -> dict[str, Any]:
    """Returns name -> default for each field of a record; `dataclasses.MISSING` if it has no default."""
    return {field.name: field.default for field in dataclasses.fields(record)}


def documented(record: type) -> type:
    """Class decorator that adds the options to a record's docstring."""
    options, types = options_of(record), {field.name: field.type for field in dataclasses.fields(record)}
    lines = [f"        {name} ({types[name]}): {known.help}" for name, known in options.items()]
    record.__doc__ = f"{record.__doc__.rstrip()}\n\n    Args:\n" + "\n".join(lines) + "\n    " if record.__doc__ else None
    return record


def check(record: Any) -> None:
    """Raises `InputError` for the first option of a record that is not among its choices, out of bounds or not finite."""
    for name, known in options_of(record).items():
        value = getattr(record, name)
        values = value if isinstance(value, tuple) else (value,)
        for one in values:
            if known.choices and one not in known.choices:
                word = "any" if isinstance(value, tuple) else "one"
                allowed = [str(choice) for choice in known.choices if choice not in ("", None)]
                nearest = did_you_mean(str(one), allowed)
                raise InputError(f"--{name} must be {word} of {', '.join(allowed)}. Received: {one!r}{nearest}")
            if isinstance(one, (int, float)) and not isinstance(one, bool):
                _check_bounds(name, one, known)


def _check_bounds(name: str, value: float, known: Option) -> None:
    least, most = known.least, known.most
    if abs(value) < float("inf") and (least is None or value >= least) and (most is None or value <= most):
        return
    if least is not None and most is not None:
        bounds = f"between {least:g} and {most:g}"
    elif least is not None:
        bounds = "not be negative" if least == 0 else f"at least {least:g}"
    else:
        bounds = "a finite number" if most is None else f"at most {most:g}"
    raise InputError(f"--{name} must {'' if bounds.startswith('not') else 'be '}{bounds}. Received: {value}")


def flag_lines(record: Any) -> dict[str, str]:
    """Returns name -> line of a flag file, for every option that a run depends on."""
    return {name: flag_line(name, getattr(record, name)) for name, known in options_of(record).items() if known.repeats}


def flag_line(name: str, value: object) -> str:
    """Returns an option as one command-line argument, e.g. `--width=0.5`, `--flip=false`, `--scales=256,320`."""
    if isinstance(value, bool):
        return f"--{name}={str(value).lower()}"
    if isinstance(value, tuple):
        return f"--{name}={','.join(map(str, value))}"
    return f"--{name}={'' if value is None else value}"


def given_flags(record: Any) -> list[str]:
    """Returns the options of a record that differ from their defaults, as one would type them on the command line."""
    defaults = defaults_of(record)
    given = {name: getattr(record, name) for name, known in options_of(record).items() if not known.is_positional}
    return [
        f"--{'' if value else 'no'}{name}" if isinstance(value, bool) else flag_line(name, value)
        for name, value in given.items()
        if value != defaults[name]
    ]


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """Returns `. Did you mean 'NAME'?` for the most similar name, or an empty string if none is similar."""
    by_lower = {name.lower(): name for name in names if name}
    found = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return f". Did you mean {by_lower[found[0]]!r}?" if found else ""


def types_of(record: type) -> dict[str, Any]:
    """Returns name -> resolved type for each option of a record."""
    hints = typing.get_type_hints(record)
    return {name: hints[name] for name in options_of(record)}


def values_of(record: Any, names: Collection[str]) -> dict[str, Any]:
    """Returns name -> value for the given fields of a record."""
    return {name: getattr(record, name) for name in names}


def part_of(record: Any, part: type[Part]) -> Part:
    """Returns an instance of `part`, a record class whose fields are all among those of `record`."""
    return part(**values_of(record, [field.name for field in dataclasses.fields(part)]))  # type: ignore[arg-type]
