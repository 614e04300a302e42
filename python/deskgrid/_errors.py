"""Errors: what failed, on what, why, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class DeskgridError(Exception):
    """An error with a stable code; ``deskgrid explain CODE`` explains it."""

    def __init__(
        self, code: str, what: str, *, on: str | None = None, why: str | None = None, next: str | None = None
    ) -> None:
        super().__init__(code, what)
        self.code = code
        self.what = what
        self.on = on
        self.why = why
        self.next = next

    @classmethod
    def from_failure(cls, failure: Mapping[str, Any]) -> DeskgridError:
        """The error that the program reports."""
        parts = {name: failure.get(name) for name in ("on", "why", "next")}
        return cls(failure.get("code", "failed"), failure.get("what", ""), **parts)

    def __str__(self) -> str:
        lines = [f"[{self.code}] {self.what}"]
        for label, text in (("on", self.on), ("why", self.why), ("next", self.next)):
            if text:
                lines.append(f"  {label + ':':<5} " + text.replace("\n", "\n        "))
        return "\n".join(lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.code, self.what, self.on, self.why, self.next)


def _restore(code: str, what: str, on: str | None, why: str | None, next: str | None) -> DeskgridError:
    return DeskgridError(code, what, on=on, why=why, next=next)
