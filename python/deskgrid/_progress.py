"""A progress bar by tqdm, where it is installed."""

from __future__ import annotations

import sys
from typing import Any


class Progress:
    """Shows how much is done; without tqdm it shows nothing. By default it shows in terminals and notebooks."""

    def __init__(self, name: str, is_shown: bool | None) -> None:
        self._name = name
        self._is_shown = sys.stderr.isatty() or _is_notebook() if is_shown is None else is_shown
        self._bar: Any = None

    def show(self, done: int, total: int, **counts: int) -> None:
        """Shows this state; of the counts, those that are not 0."""
        if not self._is_shown:
            return
        try:
            from tqdm.auto import tqdm
        except ImportError:
            self._is_shown = False
            return
        if self._bar is None:
            self._bar = tqdm(desc=self._name, total=total, unit="item")
        elif self._bar.total != total:
            self._bar.reset(total)
        self._bar.set_postfix({name: count for name, count in counts.items() if count}, refresh=False)
        self._bar.update(done - self._bar.n)
        self._bar.refresh()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()


def _is_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config
