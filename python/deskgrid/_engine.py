"""A desk's own function as the program of a pool: how rows reach it, and how its values become a result."""

from __future__ import annotations

import csv
import importlib
import inspect
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ._session import plain, records

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__deskgrid_engine__"
_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?")


def engine(function: F) -> F:
    """Marks a function as the program of a pool: ``python -m deskgrid.worker MODULE:FUNCTION``.

    Its argument is the list of the rows of an item, as dictionaries. A second parameter gets the path of the folder with
    the common data of the session. It returns a value for each row or one for the item; a value is a number, or a mapping
    of names to numbers. ``bytes`` or a text are the result as it is.
    """
    setattr(function, _MARK, True)
    return function


def load(name: str, common: Path) -> Callable[[bytes], tuple[bytes, str]]:
    """What computes the bytes of an item by the function ``MODULE:FUNCTION``: returns a result and its content type."""
    module, _, attribute = name.partition(":")
    function = getattr(importlib.import_module(module), attribute, None) if attribute else None
    if function is None or not hasattr(function, _MARK):
        raise SystemExit(f"{name} is not a function with @deskgrid.engine; name one as MODULE:FUNCTION")
    further = () if len(inspect.signature(function).parameters) < 2 else (common,)

    def compute(item: bytes) -> tuple[bytes, str]:
        found = rows(item)
        returned = function(found, *further)
        if isinstance(returned, bytes):
            return returned, "application/octet-stream"
        if isinstance(returned, str):
            return returned.encode(), "text/plain; charset=utf-8"
        return json.dumps(values(found, returned), allow_nan=False, default=plain).encode(), "application/json"

    return compute


def rows(item: bytes) -> list[dict[str, Any]]:
    """The rows of an item: the objects of JSON, or the lines of a CSV table."""
    text = item.decode("utf-8-sig")
    if text.lstrip().startswith(("{", "[")):
        found = json.loads(text)
        return found if isinstance(found, list) else [found]
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    names = next(table, [])
    return [{name: _value(name, cell) for name, cell in zip(names, cells, strict=True)} for cells in table if cells]


def _value(name: str, cell: str) -> Any:
    if name == "id":
        return cell
    if cell in ("true", "false") or _NUMBER.fullmatch(cell):
        return json.loads(cell)
    return cell or None


def values(found: list[dict[str, Any]], returned: Any) -> Any:
    """What a function returned for these rows, with their ids."""
    if returned is None:
        raise ValueError("the function returned nothing")
    # Of numpy, and a Series of pandas or Polars.
    for method in ("tolist", "to_list"):
        if hasattr(returned, method):
            returned = getattr(returned, method)()
    if isinstance(returned, Mapping) or not hasattr(returned, "__iter__"):
        return returned
    entries = [dict(one) if isinstance(one, Mapping) else {"value": one} for one in records(returned)]
    if entries and all("id" in entry for entry in entries):
        return entries
    if len(entries) != len(found):
        raise ValueError(f"the function returned {len(entries)} values without an id for {len(found)} rows")
    if len(found) == 1 and "id" not in found[0]:
        return entries[0]
    if not all("id" in row for row in found):
        raise ValueError("neither the rows nor the values have an id; submit rows with a column id")
    return [{"id": row["id"], **entry} for row, entry in zip(found, entries)]
