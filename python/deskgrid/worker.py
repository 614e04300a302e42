"""The resident program of a pool: ``python -m deskgrid.worker`` computes calls of :class:`deskgrid.Executor`, and
``python -m deskgrid.worker MODULE:FUNCTION`` items by a function with :func:`deskgrid.engine`.

An item comes on standard input: a line of JSON with its length, and its bytes. The answer goes to standard output in the
same way. What a function prints is the log of its item.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

from . import _calls, _engine, _packages


def main() -> None:
    """Computes items until standard input ends."""
    items, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    # A function, or a program that it starts, must neither read items nor write among the answers.
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    common = Path(os.environ.get("DESKGRID_COMMON", "."))
    compute = _engine.load(sys.argv[1], common) if sys.argv[1:] else _calls_of_executors(common)
    while header := items.readline():
        item = items.read(json.loads(header)["length"])
        try:
            body, content_type = compute(item)
        except _Refused as refused:
            _answer(answers, {"error": str(refused), "permanent": True}, b"")
        except Exception as error:
            traceback.print_exc()
            # What the machine or the network lacks may be there for another attempt.
            is_permanent = not isinstance(error, (OSError, MemoryError))
            _answer(answers, {"error": f"{type(error).__name__}: {error}", "permanent": is_permanent}, b"")
        else:
            _answer(answers, {"length": len(body), "content_type": content_type}, body)
        sys.stderr.flush()


class _Refused(Exception):
    """An item that can never work here."""


def _calls_of_executors(common: Path) -> Callable[[bytes], tuple[bytes, str]]:
    functions = _calls.Functions()

    def compute(item: bytes) -> tuple[bytes, str]:
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

        return _calls.compute(call_function), _calls.RESULT_TYPE

    return compute


def _answer(answers: IO[bytes], header: dict[str, object], body: bytes) -> None:
    answers.write(json.dumps(header).encode() + b"\n")
    answers.write(body)
    answers.flush()


if __name__ == "__main__":
    main()
