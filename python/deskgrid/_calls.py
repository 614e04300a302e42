"""How calls of functions and their results are written, as lines of an input and as results of items.

An item is one line, the base64 of a pickled :class:`Call`. Its result is pickled: the value, or the exception with its
traceback.
"""

from __future__ import annotations

import base64
import hashlib
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

#: Content type of a result.
RESULT_TYPE = "application/x-python-pickle"
#: Functions that a process keeps.
_FUNCTIONS_MAX = 64


class Call(NamedTuple):
    """One call of a function; what it needs of the process that computes it."""

    #: Hash of the environment of the process, when it is known.
    environment: str | None
    #: The pickled function, or the name of the common data that it is in.
    function: bytes | str
    #: Its pickled arguments.
    arguments: bytes


class RemoteTraceback(Exception):
    """The traceback of an exception in the process that raised it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f'\n"""\n{self.text}"""'


def dumps(value: Any) -> bytes:
    """Pickles a value; functions and classes of ``__main__`` with their code."""
    import cloudpickle

    pickled: bytes = cloudpickle.dumps(value, protocol=5)
    return pickled


def function_name(pickled: bytes) -> str:
    """The name of the common data that has this function."""
    return f"function-{hashlib.sha256(pickled).hexdigest()[:32]}"


def line(call: Call) -> bytes:
    """A call as a line of an input."""
    return base64.b64encode(pickle.dumps(tuple(call), protocol=5)) + b"\n"


def from_line(item: bytes) -> Call:
    """The call of a line."""
    return Call(*pickle.loads(base64.b64decode(item)))


class Functions:
    """The functions that were called last, so that each is unpickled once."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Callable[..., Any]] = OrderedDict()

    def find(self, pickled: bytes) -> Callable[..., Any]:
        """The function of these bytes."""
        function = self._known.pop(pickled, None)
        if function is None:
            function = pickle.loads(pickled)
        self._known[pickled] = function
        if len(self._known) > _FUNCTIONS_MAX:
            self._known.popitem(last=False)
        return function


def compute(function: Callable[[], Any]) -> bytes:
    """Calls a function, and returns its result or its exception, pickled."""
    try:
        answer: tuple[Any, ...] = (True, function())
        return dumps(answer)
    except BaseException as error:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        error.__traceback__ = None
        try:
            pickled = dumps((False, error, text))
            # Some exceptions can be pickled and not read.
            pickle.loads(pickled)
        except Exception:
            pickled = dumps((False, RuntimeError(f"{type(error).__name__}: {error}"), text))
        return pickled


def result(pickled: bytes) -> Any:
    """The value of a result; raises the exception that the function raised."""
    answer = pickle.loads(pickled)
    if answer[0]:
        return answer[1]
    error: BaseException = answer[1]
    error.__cause__ = RemoteTraceback(answer[2])
    raise error
