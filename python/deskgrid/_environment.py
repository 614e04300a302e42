"""The environment that sessions work in."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from ._errors import DeskgridError
from ._pipe import Frame, Pipe

_default: Environment | None = None
_default_lock = threading.Lock()


class Environment:
    """A connection to an environment; it ends with the Python process, or with :meth:`close`."""

    def __init__(self, config: str | os.PathLike[str] | None = None, *, context: str | None = None) -> None:
        arguments = [] if config is None else ["--config", os.fspath(config)]
        arguments += [] if context is None else ["--context", context]
        self.pipe = Pipe(arguments)
        self.name: str = self.pipe.opened["environment"]
        #: What is known of each business, by its name.
        self.businesses: dict[str, dict[str, Any]] = self.pipe.opened["businesses"]
        self._finalizer = weakref.finalize(self, self.pipe.close)

    def business(self, name: str | None) -> str:
        """The business of this name; without a name, the only one."""
        if name is not None and name in self.businesses:
            return name
        if name is None and len(self.businesses) == 1:
            return next(iter(self.businesses))
        known = ", ".join(self.businesses)
        raise DeskgridError(
            "usage",
            f"environment {self.name} has several businesses" if name is None else f"there is no business {name!r}",
            why=f"the businesses of environment {self.name} are {known}",
            next="name one of them with business=",
        )

    def verb(self, *arguments: str) -> Any:
        """Runs a verb of the command line, and returns its JSON document; ``None`` when it prints none."""
        return _document(self.pipe.call({"call": "verb", "arguments": arguments}))

    def documents(self, *arguments: str) -> Iterator[Any]:
        """Runs a verb of the command line, and returns each of its JSON documents as soon as it prints it."""
        for frame in self.pipe.frames({"call": "verb", "arguments": arguments, "live": True}):
            if frame.body:
                yield _document(frame)

    def close(self) -> None:
        """Ends the connection. Submitted work goes on."""
        self._finalizer()

    def __enter__(self) -> Environment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<deskgrid.Environment {self.name}: {', '.join(self.businesses)}>"


def connect(config: str | os.PathLike[str] | None = None, *, context: str | None = None) -> Environment:
    """Connects to the environment of a configuration file, and makes it the default of new sessions.

    Without a file, the variable ``DESKGRID_CONFIG`` names it. ``context`` is a context of the kubeconfig.
    """
    global _default
    environment = Environment(config, context=context)
    with _default_lock:
        _default = environment
    return environment


def default(given: Environment | None) -> Environment:
    """The given environment, or the default one."""
    if given is not None:
        return given
    if _default is None:
        raise DeskgridError("usage", "there is no connection", next='call deskgrid.connect("config.json") first')
    return _default


def flags(**options: str | Sequence[str] | bool | None) -> list[str]:
    """Options of a command line."""
    words: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or value is False:
            continue
        if value is True:
            words.append(flag)
        else:
            words += [f"{flag}={one}" for one in ([value] if isinstance(value, str) else value)]
    return words


def _document(frame: Frame) -> Any:
    return json.loads(frame.body) if frame.body.strip() else None
