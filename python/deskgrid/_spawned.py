"""Calls of functions that outlive the process that sent them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from . import _calls
from ._environment import Environment
from ._errors import DeskgridError
from ._progress import Progress
from ._session import Awaited, Outcome, Session

T = TypeVar("T")


class Spawned(Generic[T]):
    """The calls of :meth:`Executor.spawn_map`. Any process reads their results, by :func:`attach`."""

    def __init__(self, session: Session, name: str) -> None:
        self.session = session
        self._name = name

    @property
    def id(self) -> str:
        """What :func:`attach` takes: business, session and name."""
        return f"{self.session.business}/{self.session.name}/{self._name}"

    def results(self, timeout: float | None = None, *, progress: bool | None = None) -> Iterator[T]:
        """The results in the order of the calls, each as soon as it is known.

        As with ``map``, the iterator raises the exception of a call in the place of its result, and ``TimeoutError`` when
        they are not known ``timeout`` seconds after this call. ``progress`` is that of :meth:`Session.wait`.
        """
        end = None if timeout is None else time.monotonic() + timeout
        return self._results(self._jobs(), end, progress)

    def cancel(self) -> None:
        """Cancels the calls that have not ended."""
        for job in self._jobs():
            self.session.cancel(job.job)

    def _jobs(self) -> list[Awaited]:
        jobs = [one for one in self.session._awaited() if one.job.startswith(f"{self._name}/")]
        if not jobs:
            raise DeskgridError(
                "no-such-job",
                f"there are no calls {self._name!r} in session {self.session.name}",
                next="attach takes the id of what spawn_map returned",
            )
        return sorted(jobs)

    def _results(self, jobs: list[Awaited], end: float | None, is_shown: bool | None) -> Iterator[T]:
        done, total = 0, sum(job.items for job in jobs)
        with Progress(self._name, is_shown) as progress:
            for job in jobs:
                left = None if end is None else max(0.0, end - time.monotonic())
                arrived: dict[int, Outcome] = {}
                position = 0
                for outcome in self.session._follow([job], left):
                    arrived[outcome.index] = outcome
                    done += 1
                    progress.show(done, total)
                    while position in arrived:
                        yield from value_of(arrived.pop(position))
                        position += 1

    def __repr__(self) -> str:
        return f"<deskgrid.Spawned {self.id}>"


def attach(id: str, *, environment: Environment | None = None) -> Spawned[Any]:
    """The calls that :meth:`Executor.spawn_map` sent, maybe in another process, by the id of what it returned."""
    business, session, name, *_ = [*id.split("/"), "", ""]
    spawned: Spawned[Any] = Spawned(Session(session, business=business, environment=environment), name)
    spawned._jobs()
    return spawned


def value_of(outcome: Outcome) -> Any:
    """The value of a call; raises its exception, or an error when the call has no result."""
    if outcome.result is not None:
        return _calls.result(outcome.result)
    raise DeskgridError(
        outcome.code or outcome.state,
        f"the call did not succeed: {outcome.state}",
        on=f"item {outcome.index} of {outcome.job}",
        why="\n".join(text for text in (outcome.message, outcome.log) if text),
        next=f"deskgrid explain {outcome.code}" if outcome.code else None,
    )
