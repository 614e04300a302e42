"""Sessions: submit, follow, results, and decisions about them."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union

from ._environment import Environment, default, flags
from ._errors import DeskgridError
from ._pipe import Frame
from ._progress import Progress

if TYPE_CHECKING:
    import pandas
    import pyarrow

PathInput: TypeAlias = Union[str, "os.PathLike[str]"]
Row: TypeAlias = Mapping[str, Any]
#: What can be submitted: a path, paths, rows, or a table: a DataFrame of pandas or Polars, or an Arrow table.
Data: TypeAlias = Union[PathInput, Iterable[PathInput], Iterable[Row], "pandas.DataFrame", "pyarrow.Table"]
#: Common data: paths of files, or the contents of each by its name.
Common: TypeAlias = Union[PathInput, Sequence[PathInput], Mapping[str, Any]]


@dataclass(frozen=True)
class Submitted:
    """A job that was submitted."""

    job: str
    generation: int


class Awaited(NamedTuple):
    """A job as :meth:`Session._follow` takes it."""

    job: str
    generation: int
    #: The attempt that a retry requested.
    attempt: int
    items: int


@dataclass(frozen=True)
class Outcome:
    """How one item ended."""

    job: str
    #: Position of the item in its job, from 0.
    index: int
    #: ``succeeded``, ``failed``, ``cancelled`` or ``refused``.
    state: str
    #: Reason code; ``deskgrid explain CODE`` explains it.
    code: str = ""
    #: Why it has no result.
    message: str = ""
    #: Last log lines of an item without a result.
    log: str = ""
    #: Number of the attempt, from 0.
    attempt: int = 0
    #: Seconds that it was computed, when it is known.
    seconds: float | None = None
    #: The name of its file, in a pack of files.
    name: str = ""
    #: Its result.
    result: bytes | None = field(default=None, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it has succeeded."""
        return self.state == "succeeded"

    def json(self) -> Any:
        """Its result, which is JSON."""
        if self.result is None:
            raise DeskgridError("no-result", f"item {self.index} of {self.job} has no result", why=self.message)
        return json.loads(self.result)


@dataclass(frozen=True)
class Counts:
    """The items of a session by state."""

    waiting: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0
    refused: int = 0
    expired: int = 0
    row_errors: int = 0

    @property
    def total(self) -> int:
        """All items."""
        return self.pending + self.succeeded + self.failed + self.cancelled + self.refused + self.expired

    @property
    def pending(self) -> int:
        """Items without an outcome."""
        return self.waiting + self.running

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Counts:
        """The counts in a document of the program."""
        return cls(**{one.name: document.get(one.name, 0) for one in fields(cls)})


class Results:
    """Results as one table: rows with the columns of ``deskgrid results``.

    With pyarrow it is an Arrow stream for all that read the PyCapsule protocol, such as Polars and DuckDB. It is no list,
    which some of them would read in another way.
    """

    columns = ("session", "job", "row", "measure", "value", "standard_error", "error")

    def __init__(self, rows: Iterable[dict[str, Any]] = ()) -> None:
        self._rows = list(rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._rows[index]

    def __repr__(self) -> str:
        return f"<deskgrid.Results: {len(self)} rows>"

    def to_pandas(self) -> pandas.DataFrame:
        """The table as a DataFrame of pandas."""
        import pandas

        return pandas.DataFrame(list(self), columns=list(self.columns))

    def to_arrow(self) -> pyarrow.Table:
        """The table as one of pyarrow; a value that is a text is in the column ``text``."""
        import pyarrow

        numbers = ("value", "standard_error")
        names = [*self.columns[:5], "text", *self.columns[5:]]
        schema = pyarrow.schema([(name, pyarrow.float64() if name in numbers else pyarrow.string()) for name in names])
        rows = [{**row, "value": None, "text": row["value"]} if isinstance(row["value"], str) else row for row in self]
        return pyarrow.Table.from_pylist(rows, schema=schema)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.to_arrow().__arrow_c_stream__(requested_schema)

    def to_parquet(self, path: PathInput) -> None:
        """Writes the table to a file."""
        import pyarrow.parquet

        pyarrow.parquet.write_table(self.to_arrow(), path)


class Session:
    """Jobs that are submitted together. A session that exists is opened by its name."""

    def __init__(
        self, name: str | None = None, *, business: str | None = None, environment: Environment | None = None
    ) -> None:
        self.environment = default(environment)
        self.business = self.environment.business(business)
        self.name = name or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:4]}"

    def submit(
        self,
        data: Data,
        *,
        job: str | None = None,
        rows_per_item: int = 1,
        lines: bool = False,
        common: Common = (),
        client: str | None = None,
        priority: bool = False,
        each: bool = False,
    ) -> list[Submitted]:
        """Submits files, or rows.

        Each file is a job; a folder is its files. More than 500 small files are items of one job, or of a few, unless
        ``each``. Rows (mappings) are one job, whose items have ``rows_per_item`` rows
        each: a CSV table, or with ``lines`` one line of JSON for each item. What the session has already is not sent
        again.
        """
        with tempfile.TemporaryDirectory(prefix="deskgrid-") as folder:
            shared = flags(
                business=self.business,
                session=self.name,
                client=client,
                priority=priority,
                each=each,
                common=_common_paths(common, Path(folder, "common")),
            )
            inputs = _inputs(data, job, rows_per_item, lines, Path(folder))
            document = self.environment.verb("submit", *shared, *inputs)
        jobs = document["jobs"]
        return [Submitted(one["job"], one["generation"]) for one in jobs if one.get("generation") is not None]

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of the session, each with its state."""
        found = self.environment.verb("jobs", *flags(business=self.business, session=self.name))
        return list(found or [])

    def outcomes(
        self, jobs: Iterable[Submitted] | None = None, *, timeout: float | None = None
    ) -> Iterator[Outcome]:
        """The outcome of each item, as soon as it is written, with its result; after a retry that of the new attempt.

        Ends when every item of the jobs, by default all jobs of the session now, has ended; after ``timeout`` seconds it
        raises ``TimeoutError``.
        """
        awaited = self._awaited()
        if jobs is not None:
            known = {(one.job, one.generation): one for one in awaited}
            awaited = [known.get((one.job, one.generation)) or Awaited(one.job, one.generation, 0, 0) for one in jobs]
        return self._follow(awaited, timeout)

    def _awaited(self) -> list[Awaited]:
        """The jobs of the session, each with the attempt whose outcome counts."""
        found = []
        for one in self.jobs():
            is_pending = one["state"] in ("waiting", "running")
            items = sum((one.get("items") or {"": 1}).values())
            if one["generation"]:
                found.append(Awaited(one["job"], one["generation"], one["attempt"] if is_pending else 0, items))
        return found

    def _follow(self, jobs: Sequence[Awaited], timeout: float | None) -> Iterator[Outcome]:
        """The outcome of each item of these jobs."""
        call = {"call": "follow", "jobs": [one[:3] for one in jobs], "seconds": timeout, **self._names}
        for frame in self.environment.pipe.frames(call):
            if "outcome" in frame.header:
                yield from outcomes_of(frame)
            elif missing := frame.header["missing"]:
                raise TimeoutError(f"{len(missing)} jobs of session {self.name} are not settled after {timeout} s")

    def wait(self, timeout: float | None = None, *, progress: bool | None = None) -> Counts:
        """Waits until every item has ended, and returns the counts.

        After ``timeout`` seconds it raises :class:`DeskgridError` with the code ``not-settled``. ``progress`` shows a bar of
        tqdm, where that is installed, by default in terminals and notebooks.
        """
        limit = None if timeout is None else f"{max(1, round(timeout))}s"
        counts = Counts()
        with Progress(self.name, progress) as bar:
            for document in self.environment.documents("session", "wait", *self._target, *flags(timeout=limit)):
                counts = Counts.of(document)
                bar.show(counts.total - counts.pending, counts.total, running=counts.running, failed=counts.failed)
        return counts

    def results(self) -> Results:
        """The results of all jobs that have ended, as one table."""
        return Results(self.environment.verb("session", "results", *self._target, "--format=json"))

    def failures(self) -> list[dict[str, Any]]:
        """The items that did not succeed, grouped by cause, the most frequent first."""
        causes: list[dict[str, Any]] = self.environment.verb("session", "failures", *self._target)["causes"]
        return causes

    def cancel(self, job: str | None = None) -> Counts:
        """Cancels what was submitted until now, or one job; inputs are kept. Returns the counts of what it applied to."""
        return Counts.of(self._decide("cancel", *flags(job=job))["counts"])

    def pause(self) -> None:
        """Starts no more jobs of the session until :meth:`resume`; what runs goes on."""
        self._decide("pause")

    def resume(self) -> None:
        """Ends a pause."""
        self._decide("resume")

    def retry(
        self,
        *jobs: str,
        failed: bool = False,
        reason: Sequence[str] = (),
        memory: str | None = None,
        timeout: str | None = None,
    ) -> list[str]:
        """Computes again what did not succeed, and returns the jobs.

        ``jobs``, ``failed`` (not what was cancelled) and ``reason`` (reason codes) restrict it. ``memory`` and ``timeout``
        are those of the new attempt, such as ``2Gi`` and ``2h``.
        """
        options = flags(failed=failed, reason=reason, memory=memory, timeout=timeout)
        retried = self._decide("retry", *options, "--", *jobs)["retried"]
        return [one["job"] for one in retried]

    @property
    def _names(self) -> dict[str, str]:
        return {"business": self.business, "session": self.name}

    @property
    def _target(self) -> list[str]:
        return [f"--business={self.business}", self.name]

    def _decide(self, verb: str, *options: str) -> Any:
        return self.environment.verb("session", verb, "--yes", *self._target, *options)

    def __repr__(self) -> str:
        return f"<deskgrid.Session {self.name} of {self.business}>"


def outcomes_of(frame: Frame) -> Iterator[Outcome]:
    """The outcomes of the items in a frame."""
    record, lengths = frame.header["outcome"], frame.header["lengths"]
    work = record.get("work") or {}
    job, attempt = work.get("job", ""), work.get("attempt", 0)
    # A single input, or a pack that was not split, has one outcome for all of it.
    whole = {"state": record["state"], "reason": record["reason"], "log_tail": record.get("log_tail")}
    items = record.get("items") or [{"index": index, **whole} for index in range(len(lengths))]
    start = 0
    for item, length in zip(items, lengths):
        reason = item.get("reason") or {}
        result = None if length is None else frame.body[start : start + length]
        start += length or 0
        yield Outcome(
            job=job,
            index=item["index"],
            state=item["state"],
            code=reason.get("code", ""),
            message=reason.get("message", ""),
            log=item.get("log_tail") or "",
            attempt=attempt,
            seconds=item.get("seconds"),
            name=item.get("name") or "",
            result=result,
        )


def _inputs(data: Data, job: str | None, rows_per_item: int, lines: bool, folder: Path) -> list[str]:
    """The arguments of ``submit`` for the inputs; rows are written to a file in the folder."""
    if isinstance(data, (str, os.PathLike)):
        return [*flags(job=job), "--", os.fspath(data)]
    entries: list[Any] = records(data)
    if not entries:
        raise DeskgridError("nothing-to-submit", "there is nothing to submit", why="the data has no rows and no paths")
    paths = [os.fspath(entry) for entry in entries if isinstance(entry, (str, os.PathLike))]
    rows = [entry for entry in entries if isinstance(entry, Mapping)]
    if len(paths) == len(entries):
        return [*flags(job=job), "--", *paths]
    if len(rows) != len(entries):
        raise DeskgridError("usage", "the data has neither only paths nor only rows", next="submit paths or mappings")
    path = folder / ("rows.ndjson" if lines else "rows.csv")
    if lines and rows_per_item != 1:
        raise DeskgridError("usage", "an item of lines has one line", next="leave out rows_per_item or lines")
    path.write_text(_ndjson(rows) if lines else _csv(rows), encoding="utf-8")
    named = flags(job=job or path.name)
    if lines:
        return [*named, *flags(pack=str(path))]
    return [*named, *flags(table=str(path), rows_per_item=str(rows_per_item))]


def records(data: Any) -> list[Any]:
    """The rows of a table, or the entries of another collection."""
    # Polars, pyarrow and pandas.
    for method, arguments in (("to_dicts", ()), ("to_pylist", ()), ("to_dict", ("records",))):
        if not isinstance(data, Mapping) and hasattr(data, method):
            return list(getattr(data, method)(*arguments))
    if hasattr(data, "__arrow_c_stream__"):
        import pyarrow

        return list(pyarrow.table(data).to_pylist())
    return list(data)


def _ndjson(rows: Sequence[Row]) -> str:
    return "".join(json.dumps(dict(row), allow_nan=False, default=plain) + "\n" for row in rows)


def plain(value: Any) -> Any:
    """A number of numpy, or a date, as JSON has it."""
    for method in ("item", "isoformat"):
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"{value!r} cannot be written as JSON")


def _csv(rows: Sequence[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None or type(value).__name__ in ("NAType", "NaTType") or value != value:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ";".join(_cell(one) for one in value)
    return str(value)


def _common_paths(common: Common, folder: Path) -> list[str]:
    """The paths of the common data; contents are written to files in the folder."""
    if isinstance(common, (str, os.PathLike)):
        return [os.fspath(common)]
    if not isinstance(common, Mapping):
        return [os.fspath(path) for path in common]
    folder.mkdir()
    paths = []
    for name, contents in common.items():
        if "/" in name or name in ("", ".", ".."):
            raise DeskgridError("usage", f"{name!r} is not a valid name of common data", next="use a name without /")
        if isinstance(contents, str):
            contents = contents.encode()
        if not isinstance(contents, (bytes, bytearray, memoryview)):
            contents = json.dumps(contents, allow_nan=False).encode()
        path = folder / name
        path.write_bytes(contents)
        paths.append(str(path))
    return paths
