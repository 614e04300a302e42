"""Calls of the program ``deskgrid``, which runs as a child and answers over a pipe.

Both sides write frames: the length of a header in 4 bytes and of a body in 8, both big-endian, the header, which is JSON,
and the body. The last frame of an answer has ``exit`` or ``error``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import shutil
import struct
import subprocess
import sysconfig
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from ._errors import DeskgridError

#: The program, in place of the one in the wheel.
PROGRAM_VARIABLE = "DESKGRID_PROGRAM"

_LENGTHS = struct.Struct("!IQ")
#: Seconds in which the program ends after its standard input did.
_END_SECONDS = 10.0


@dataclass(frozen=True)
class Frame:
    """A part of an answer."""

    header: dict[str, Any]
    body: bytes

    @property
    def is_last(self) -> bool:
        return "exit" in self.header or "error" in self.header


def program() -> str:
    """The path of the program ``deskgrid``."""
    given = os.environ.get(PROGRAM_VARIABLE)
    if given:
        return given
    installed = os.path.join(sysconfig.get_path("scripts"), "deskgrid")
    found = installed if os.path.exists(installed) else shutil.which("deskgrid")
    if found is None:
        raise DeskgridError(
            "no-program",
            "the program deskgrid is not installed",
            why=f"it is neither in {os.path.dirname(installed)} nor in PATH",
            next=f"install the wheel of this package, or set {PROGRAM_VARIABLE} to the path of the program",
        )
    return found


class Pipe:
    """The program ``deskgrid`` and its calls. Threads may share it."""

    def __init__(self, arguments: Sequence[str]) -> None:
        path = program()
        try:
            # A session of its own: Ctrl-C in a notebook interrupts Python and not the program.
            self._child = subprocess.Popen(
                [path, *arguments, "--serve-pipe"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise DeskgridError("no-program", f"cannot start {path}", why=str(error)) from error
        assert self._child.stdin is not None and self._child.stdout is not None
        self._stdin: IO[bytes] = self._child.stdin
        self._stdout: IO[bytes] = self._child.stdout
        self._ids = itertools.count(1)
        # Never held together: the program may write before it reads on, and the reader needs the second one.
        self._write_lock = threading.Lock()
        self._lock = threading.Lock()
        self._closed: DeskgridError | None = None
        opened: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._receivers: dict[int, Callable[[Frame], None]] = {0: opened.put}
        self._reader = threading.Thread(target=self._read, name="deskgrid-pipe", daemon=True)
        self._reader.start()
        try:
            #: What the program says about the environment.
            self.opened: dict[str, Any] = _checked(opened.get()).header["opened"]
        except DeskgridError:
            self.close()
            raise

    def begin(self, header: dict[str, Any], body: bytes, receive: Callable[[Frame], None]) -> int:
        """Begins a call and returns its id. ``receive`` gets each frame of the answer, in a thread of the pipe."""
        with self._lock:
            if self._closed is not None:
                raise self._closed
            call = next(self._ids)
            self._receivers[call] = receive
        encoded = json.dumps({"id": call, **header}).encode()
        try:
            with self._write_lock:
                self._stdin.write(_LENGTHS.pack(len(encoded), len(body)))
                self._stdin.write(encoded)
                self._stdin.write(body)
                self._stdin.flush()
        except (OSError, ValueError) as error:
            with self._lock:
                self._receivers.pop(call, None)
            raise self._ended() from error
        return call

    def frames(self, header: dict[str, Any], body: bytes = b"") -> Iterator[Frame]:
        """The frames of the answer of a call. The call is stopped when the iterator is closed early."""
        received: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        call = self.begin(header, body, received.put)
        is_last = False
        try:
            while not is_last:
                frame = _checked(received.get())
                is_last = frame.is_last
                yield frame
        except DeskgridError:
            is_last = True
            raise
        finally:
            if not is_last:
                with contextlib.suppress(DeskgridError):
                    self.begin({"call": "stop", "target": call}, b"", lambda frame: None)

    def call(self, header: dict[str, Any], body: bytes = b"") -> Frame:
        """The last frame of the answer of a call."""
        *_, last = self.frames(header, body)
        return last

    def close(self) -> None:
        """Ends the program."""
        with self._lock:
            if self._closed is None:
                self._closed = DeskgridError(
                    "connection-closed", "the connection is closed", next="call deskgrid.connect again"
                )
        with contextlib.suppress(OSError), self._write_lock:
            self._stdin.close()
        try:
            self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        if threading.current_thread() is not self._reader:
            self._reader.join()
        self._stdout.close()

    def _read(self) -> None:
        while (lengths := self._stdout.read(_LENGTHS.size)) and len(lengths) == _LENGTHS.size:
            header, body = _LENGTHS.unpack(lengths)
            frame = Frame(json.loads(self._stdout.read(header)), self._stdout.read(body))
            with self._lock:
                call = frame.header["id"]
                receive = self._receivers.pop(call, None) if frame.is_last else self._receivers.get(call)
            if receive is not None:
                receive(frame)
        with self._lock:
            if self._closed is None:
                self._closed = self._ended()
            error = self._closed
            left = list(self._receivers.values())
            self._receivers.clear()
        failure = {"code": error.code, "what": error.what, "why": error.why, "next": error.next}
        for receive in left:
            receive(Frame({"error": failure}, b""))

    def _ended(self) -> DeskgridError:
        try:
            code: int | None = self._child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        return DeskgridError(
            "program-ended",
            "the program deskgrid ended",
            why="it closed its pipe" if code is None else f"its exit code is {code}",
            next="read its messages on standard error, and call deskgrid.connect again; submitted work goes on",
        )


def _checked(frame: Frame) -> Frame:
    if "error" in frame.header:
        raise DeskgridError.from_failure(frame.header["error"])
    return frame
