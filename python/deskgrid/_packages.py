"""What identifies a Python environment: the version of Python and the installed packages."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Collection, Mapping
from functools import cache

#: Differences that a message lists.
_LISTED = 10


@cache
def installed() -> Mapping[str, str]:
    """The version of Python, as ``python``, and of each installed package, by its normalised name."""
    # A session without functions does not need it.
    import importlib.metadata

    found = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            # Of two with the same name, the first on the path is imported.
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), distribution.version)
    return found


@cache
def digest() -> str:
    """A hash of what is installed."""
    return hashlib.sha256(json.dumps(installed(), sort_keys=True).encode()).hexdigest()


def describe() -> tuple[dict[str, str], str]:
    """What is installed where this is called, and its hash."""
    return dict(installed()), digest()


def differences(here: Mapping[str, str], there: Mapping[str, str], only: Collection[str] | None = None) -> list[str]:
    """How two environments differ; ``only`` restricts it to Python and these packages."""
    names = here.keys() | there.keys()
    if only is not None:
        names &= {"python", *(re.sub(r"[-_.]+", "-", name).lower() for name in only)}
    found = [
        f"{name}: {here.get(name, 'not installed')} here, {there.get(name, 'not installed')} in the pool"
        for name in sorted(names)
        if here.get(name) != there.get(name)
    ]
    rest = len(found) - _LISTED
    return found if rest <= 0 else [*found[:_LISTED], f"and {rest} more"]
