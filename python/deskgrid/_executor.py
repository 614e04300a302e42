"""An executor of :mod:`concurrent.futures` whose calls are items of a session, computed by a pool."""

from __future__ import annotations

import itertools
import pickle
import threading
import uuid
import weakref
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Executor as BaseExecutor
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

from . import _calls, _packages
from ._environment import Environment
from ._errors import DeskgridError
from ._pipe import Frame
from ._session import Outcome, Session, Submitted, outcomes_of
from ._spawned import Spawned, value_of

T = TypeVar("T")

#: A function of more bytes is common data of the session, and not in each item.
_FUNCTION_IN_ITEM_MAX = 4096
#: Items of one job.
_BATCH_ITEMS_MAX = 10_000
#: Bytes of one job, unless one item has more.
_BATCH_BYTES_MAX = 64 * 1024 * 1024
#: Seconds in which the pool has to compute the first item, which describes its environment.
_FIRST_SECONDS = 600.0


class _Pending(NamedTuple):
    future: Future[Any]
    function: bytes
    arguments: bytes


class Executor(BaseExecutor):
    """Calls functions in a pool whose program is ``python -m deskgrid.worker``.

    The Python environments of this process and of the pool are compared first, and nothing is sent when they differ;
    ``packages`` restricts the comparison to Python and these packages. At most ``max_in_flight`` calls are sent and
    without an outcome; the others wait here and can be cancelled. Calls that were sent go on when this process ends.
    """

    def __init__(
        self,
        *,
        business: str | None = None,
        session: str | None = None,
        environment: Environment | None = None,
        packages: Collection[str] | None = None,
        max_in_flight: int = 100_000,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError("max_in_flight must be at least 1")
        self.session = Session(session, business=business, environment=environment)
        pipe = self.session.environment.pipe
        names = {"business": self.session.business, "session": self.session.name}
        digest = _check_environment(self.session, packages)
        self._state = _State(names, digest, max_in_flight)
        self._sender = threading.Thread(
            target=_send_all, args=(self._state, pipe.call, pipe.begin), name="deskgrid-executor", daemon=True
        )
        self._sender.start()
        # An executor that nobody refers to any more sends what it has, and ends.
        self._finalizer = weakref.finalize(self, self._state.close)
        threading._register_atexit(_join, weakref.ref(self._state), self._sender)  # type: ignore[attr-defined]

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Calls ``fn(*args, **kwargs)`` in the pool."""
        return self._submit(_calls.dumps(fn), args, kwargs)

    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[T]:
        """Like ``map``; ``chunksize`` calls are one item."""
        # The function is pickled once; the base class makes the iterator, with its time limit and its cancellation.
        pickled = _calls.dumps(_Chunk(fn))
        mapper = _Mapper(lambda chunk: self._submit(pickled, (chunk,), {}))
        results: Iterator[Any] = mapper.map(fn, _chunks(zip(*iterables), chunksize), timeout=timeout)
        return _flatten(results)

    def spawn_map(self, fn: Callable[..., T], *iterables: Iterable[Any], chunksize: int = 1) -> Spawned[T]:
        """Sends all calls of ``map``, and returns a handle to their results, which :func:`attach` opens in any process."""
        if self._state.is_closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        name = f"map-{uuid.uuid4().hex[:8]}"
        pickled = _calls.dumps(_Chunk(fn))
        chunks = _chunks(zip(*iterables), chunksize)
        calls = (_Pending(Future(), pickled, _calls.dumps(((chunk,), {}))) for chunk in chunks)
        number = 0
        for number, batch in enumerate(_batches(calls), 1):
            _send(self._state, f"{name}/{number:06}", batch, self.session.environment.pipe.call)
        if number == 0:
            raise DeskgridError("nothing-to-submit", "there is nothing to submit", why="there are no arguments")
        return Spawned(self.session, name)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls. ``cancel_futures`` cancels those that were not sent yet."""
        for future in self._state.close(cancel=cancel_futures):
            future.cancel()
        if wait:
            self._sender.join()

    def _submit(self, function: bytes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            arguments = _calls.dumps((args, kwargs))
        except Exception as error:
            if self._state.is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown") from error
            future.set_exception(error)
            return future
        self._state.add(_Pending(future, function, arguments))
        return future


class _Mapper(BaseExecutor):
    def __init__(self, submit: Callable[[Any], Future[Any]]) -> None:
        self._submit = submit

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return self._submit(*args)


class _Chunk:
    """Calls a function for each of several tuples of arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, chunk: list[tuple[Any, ...]]) -> list[Any]:
        return [self._function(*arguments) for arguments in chunk]


def _chunks(arguments: Iterator[tuple[Any, ...]], size: int) -> Iterator[list[tuple[Any, ...]]]:
    if size < 1:
        raise ValueError("chunksize must be >= 1.")
    return iter(lambda: list(itertools.islice(arguments, size)), [])


def _batches(calls: Iterable[_Pending]) -> Iterator[list[_Pending]]:
    """The calls of each job."""
    batch: list[_Pending] = []
    size = 0
    for call in calls:
        size += len(call.arguments)
        if batch and (len(batch) == _BATCH_ITEMS_MAX or size > _BATCH_BYTES_MAX):
            yield batch
            batch, size = [], len(call.arguments)
        batch.append(call)
    if batch:
        yield batch


def _flatten(chunks: Iterator[list[T]]) -> Iterator[T]:
    for chunk in chunks:
        # As in the process pool, a result that was handed out is not kept.
        chunk.reverse()
        while chunk:
            yield chunk.pop()


class _State:
    """What an executor shares with its thread."""

    def __init__(self, names: dict[str, str], digest: str, max_in_flight: int) -> None:
        self.names = names
        self.digest = digest
        self.common: set[str] = set()
        self._max_in_flight = max_in_flight
        self._changed = threading.Condition()
        self._pending: deque[_Pending] = deque()
        self._in_flight = 0
        self._error: DeskgridError | None = None
        self.is_closed = False

    def add(self, call: _Pending) -> None:
        with self._changed:
            if self._error is not None:
                raise self._error
            if self.is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._pending.append(call)
            self._changed.notify_all()

    def take(self) -> list[_Pending]:
        """The next calls to send; none when there are no more."""
        with self._changed:
            while True:
                taken: list[_Pending] = []
                size = 0
                room = min(self._max_in_flight - self._in_flight, _BATCH_ITEMS_MAX)
                while self._pending and len(taken) < room:
                    call = self._pending[0]
                    # Common data belongs to a whole job: its calls have the same large function.
                    if taken and not _fits(taken[0], call):
                        break
                    size += len(call.function) + len(call.arguments)
                    if taken and size > _BATCH_BYTES_MAX:
                        break
                    self._pending.popleft()
                    if call.future.set_running_or_notify_cancel():
                        taken.append(call)
                if taken:
                    self._in_flight += len(taken)
                    return taken
                if self.is_closed and not self._pending and self._in_flight == 0:
                    return []
                self._changed.wait()

    def settled(self, count: int) -> None:
        with self._changed:
            self._in_flight -= count
            self._changed.notify_all()

    def fail(self, error: DeskgridError) -> None:
        """Nothing more can be sent."""
        with self._changed:
            self._error = error
            self.is_closed = True
            pending = list(self._pending)
            self._pending.clear()
            self._changed.notify_all()
        for call in pending:
            if call.future.set_running_or_notify_cancel():
                call.future.set_exception(error)

    def close(self, *, cancel: bool = False) -> list[Future[Any]]:
        """Takes no more calls; returns those that are withdrawn."""
        with self._changed:
            self.is_closed = True
            withdrawn: list[Future[Any]] = []
            # Those for which there is room count as sent.
            while cancel and len(self._pending) > self._max_in_flight - self._in_flight:
                withdrawn.append(self._pending.pop().future)
            self._changed.notify_all()
        return withdrawn


def _fits(first: _Pending, call: _Pending) -> bool:
    is_large = len(call.function) > _FUNCTION_IN_ITEM_MAX
    return call.function == first.function if is_large else len(first.function) <= _FUNCTION_IN_ITEM_MAX


def _send_all(state: _State, call: Callable[..., Frame], begin: Callable[..., int]) -> None:
    for number in itertools.count():
        batch = state.take()
        if not batch:
            return
        job = f"calls-{number:06}"
        try:
            generation = _send(state, job, batch, call)
            follow = {"call": "follow", "jobs": [(job, generation, 0)], **state.names}
            begin(follow, b"", _Receiver(state, [one.future for one in batch]))
        except DeskgridError as error:
            for one in batch:
                one.future.set_exception(error)
            state.settled(len(batch))
            if error.code in ("connection-closed", "program-ended"):
                state.fail(error)
        # A future that is done is not kept until the next call.
        del batch


def _send(state: _State, job: str, batch: list[_Pending], call: Callable[..., Frame]) -> int:
    """Sends calls as a job, and returns its generation."""
    function: bytes | None = batch[0].function
    common: list[str] = []
    if len(batch[0].function) > _FUNCTION_IN_ITEM_MAX:
        common = [_calls.function_name(batch[0].function)]
        function = None
        if common[0] not in state.common:
            call({"call": "common", "name": common[0], **state.names}, batch[0].function)
            state.common.add(common[0])
    lines = b"".join(
        _calls.line(_calls.Call(state.digest, common[0] if function is None else one.function, one.arguments))
        for one in batch
    )
    names = {**state.names, "client": "python"}
    sent = call({"call": "send", "job": job, "items": len(batch), "common": common, **names}, lines)
    return int(sent.header["generation"])


class _Receiver:
    """Sets the futures of a job from its outcomes."""

    def __init__(self, state: _State, futures: list[Future[Any]]) -> None:
        self._state = state
        self._futures: dict[int, Future[Any]] = dict(enumerate(futures))

    def __call__(self, frame: Frame) -> None:
        error: DeskgridError | None = None
        settled = 0
        if "outcome" in frame.header:
            for outcome in outcomes_of(frame):
                future = self._futures.pop(outcome.index, None)
                if future is not None:
                    _set(future, outcome)
                    settled += 1
        elif "error" in frame.header:
            error = DeskgridError.from_failure(frame.header["error"])
        if frame.is_last:
            # A pack that was not split has one outcome for all of it.
            error = error or DeskgridError("no-result", "the call has no outcome of its own")
            settled += len(self._futures)
            for future in self._futures.values():
                future.set_exception(error)
            self._futures.clear()
        self._state.settled(settled)


def _set(future: Future[Any], outcome: Outcome) -> None:
    try:
        value = value_of(outcome)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(value)


def _join(state: weakref.ref[_State], sender: threading.Thread) -> None:
    """At the end of the process: waits for the calls, as the executors of the standard library do."""
    found = state()
    if found is not None:
        found.close()
        del found
        sender.join()


def _check_environment(session: Session, packages: Collection[str] | None) -> str:
    """The hash of the environment of the pool, which must be the same as that of this process."""
    business = session.environment.businesses[session.business]
    if not business["pool"]:
        raise DeskgridError(
            "usage",
            f"business {session.business} has no pool",
            next='set dispatch = "pool" and the command python -m deskgrid.worker in the environment file',
        )
    pipe = session.environment.pipe
    names = {"business": session.business, "session": session.name}
    call = _calls.Call(None, _calls.dumps(_packages.describe), _calls.dumps(((), {})))
    line = _calls.line(call)
    sent = pipe.call({"call": "send", "job": "environment", "items": 1, "client": "python", **names}, line)
    job = Submitted("environment", sent.header["generation"])
    (outcome,) = session.outcomes([job], timeout=_FIRST_SECONDS)
    try:
        installed, digest = _calls.result(outcome.result or b"")
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, AttributeError, ImportError) as error:
        raise DeskgridError(
            "environment-differs",
            f"the pool of {session.business} does not compute calls of Python functions",
            why=outcome.message or repr(error),
            next="its program is python -m deskgrid.worker with resident = true, and the version of this package",
        ) from error
    found = _packages.differences(_packages.installed(), installed, packages)
    if found:
        raise DeskgridError(
            "environment-differs",
            f"the pool of {session.business} has another Python environment; nothing was submitted",
            why="\n".join(found),
            next="install the same packages on both sides, or name those that matter with packages=",
        )
    return str(digest)
