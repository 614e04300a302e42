"""The resident program of a pool that computes calls of :class:`deskgrid.Executor`: ``python -m deskgrid.worker``.

An item comes on standard input: a line of JSON with its length, and its bytes. The answer goes to standard output in the
same way. What a function prints is the log of its item.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path
from typing import IO

from . import _calls, _packages


def main() -> None:
    """Computes items until standard input ends."""
    items, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A function, or a program that it starts, must neither read items nor write among the answers.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    common = Path(os.environ.get("DESKGRID_COMMON", "."))
    functions = _calls.Functions()
    while header := items.readline():
        item = items.read(json.loads(header)["length"])
        try:
            body = _compute(item, functions, common)
        except _Refused as refused:
            _answer(answers, {"error": str(refused), "permanent": True}, b"")
        else:
            _answer(answers, {"length": len(body), "content_type": _calls.RESULT_TYPE}, body)
        sys.stderr.flush()


class _Refused(Exception):
    """An item that can never work here."""


def _compute(item: bytes, functions: _calls.Functions, common: Path) -> bytes:
    try:
        call = _calls.from_line(item)
    except (ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise _Refused(f"the item is not a call of deskgrid.Executor: {error!r}") from error
    if call.environment not in (None, _packages.digest()):
        raise _Refused("the pool has another Python environment than when the call was submitted; submit it again")

    def call_function() -> object:
        pickled = call.function if isinstance(call.function, bytes) else (common / call.function).read_bytes()
        positional, named = pickle.loads(call.arguments)
        return functions.find(pickled)(*positional, **named)

    return _calls.compute(call_function)


def _answer(answers: IO[bytes], header: dict[str, object], body: bytes) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(body)
    answers.flush()


if __name__ == "__main__":
    main()
