"""The table of a bulk prediction: a Parquet file that is written in parts, so that a prediction that was interrupted goes on."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from keras_widerresnet.errors import InputError
from keras_widerresnet.files import reason, remove, replacing

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
COMPRESSION = "zstd"
_JOB_FILE = "job.json"


class Table:
    """A Parquet file, and beside it the folder `NAME.parquet.parts` while it is not complete.

    Args:
        path: the final file.
        job: name -> value of all that the rows depend on. Parts of another job are not continued.
        overwrite: whether an existing file, or parts of another job, may be replaced.

    Raises:
        InputError: if one exists and must not be replaced, or nothing can be written there.
    """

    def __init__(self, path: pathlib.Path, job: Mapping[str, object], overwrite: bool):
        self.path, self.folder = path, parts_folder(path)
        job = json.loads(json.dumps(dict(job)))  # as it is read again: tuples become lists
        with self._writing():
            before = self._job_before()
            if before is not None and before != job:
                if not overwrite:
                    raise InputError(
                        f"{str(self.folder)!r} belongs to another prediction ({_difference(before, job)}); --overwrite starts anew"
                    )
                remove(self.folder)
                before = None
            if before is None:
                with replacing(self.folder) as temporary:
                    temporary.mkdir(parents=True)
                    (temporary / _JOB_FILE).write_text(json.dumps(job, indent=1) + "\n")

    @property
    def parts(self) -> int:
        """Number of parts that are complete; they are written in order."""
        number = 0
        while self._part(number).is_file():
            number += 1
        return number

    def add(self, rows: pyarrow.Table) -> None:
        """Writes the next part."""
        import pyarrow.parquet

        with self._writing(), replacing(self._part(self.parts)) as temporary:
            pyarrow.parquet.write_table(rows, temporary, compression=COMPRESSION)

    def finish(self) -> None:
        """Joins all parts into the final file, one row group each, and removes them."""
        import pyarrow.parquet as parquet

        paths = [self._part(number) for number in range(self.parts)]
        with self._writing():
            with (
                replacing(self.path) as temporary,
                parquet.ParquetWriter(temporary, parquet.read_schema(paths[0]), compression=COMPRESSION) as file,
            ):
                for path in paths:
                    file.write_table(parquet.read_table(path))
            remove(self.folder)

    def _part(self, number: int) -> pathlib.Path:
        return self.folder / f"part-{number:06d}{SUFFIX}"

    def _job_before(self) -> dict[str, object] | None:
        path = self.folder / _JOB_FILE
        if not self.folder.exists():
            return None
        try:
            return json.loads(path.read_text())
        except (OSError, ValueError):
            raise InputError(f"{str(self.folder)!r} exists and does not contain the parts of a prediction: rename or remove it") from None

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(f"{str(self.path)!r} cannot be written: {reason(error)}") from None


def parts_folder(path: pathlib.Path) -> pathlib.Path:
    """Returns the folder of a table's parts."""
    return path.with_name(f"{path.name}.parts")


def _difference(before: Mapping[str, object], job: Mapping[str, object]) -> str:
    """Describes the first difference between two jobs."""
    name = next(name for name in (*job, *before) if before.get(name) != job.get(name))
    return f"{name}: {before.get(name)!r}, now {job.get(name)!r}"
