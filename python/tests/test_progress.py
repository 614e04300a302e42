"""The progress bar, where tqdm is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import unittest
import unittest.mock

from deskgrid import _progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class ProgressTest(unittest.TestCase):
    def shown(self, stream: io.StringIO, is_shown: bool | None) -> str:
        with contextlib.redirect_stderr(stream), _progress.Progress("RISK", is_shown) as progress:
            progress.show(1, 4, failed=0)
            progress.show(5, 5, failed=2)
        return stream.getvalue()

    @unittest.skipUnless(importlib.util.find_spec("tqdm"), "tqdm is not installed")
    def test_it_shows_in_terminals_or_when_it_is_asked_for(self) -> None:
        for text in (self.shown(Terminal(), None), self.shown(io.StringIO(), True)):
            self.assertIn("RISK", text)
            self.assertIn("5/5", text)
            self.assertIn("failed=2", text)

    def test_it_shows_nothing_elsewhere_or_without_tqdm(self) -> None:
        self.assertEqual(self.shown(io.StringIO(), None), "")
        self.assertEqual(self.shown(Terminal(), False), "")
        with unittest.mock.patch.dict(sys.modules, {"tqdm": None, "tqdm.auto": None}):
            self.assertEqual(self.shown(io.StringIO(), True), "")

    @unittest.skipUnless(importlib.util.find_spec("tqdm"), "tqdm is not installed")
    def test_it_shows_in_notebooks(self) -> None:
        ipython = unittest.mock.Mock()
        ipython.get_ipython.return_value.config = {"IPKernelApp": {}}
        with unittest.mock.patch.dict(sys.modules, {"IPython": ipython}):
            self.assertIn("5/5", self.shown(io.StringIO(), None))


if __name__ == "__main__":
    unittest.main()
