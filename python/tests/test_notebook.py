"""The notebook among the examples: its code runs from the first cell to the last."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import unittest
import unittest.mock
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent.parent / "examples" / "portfolio.ipynb"


class NotebookTest(unittest.TestCase):
    def test_the_portfolio_is_priced_in_two_markets(self) -> None:
        cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
        names: dict[str, Any] = {}
        printed = io.StringIO()
        variables = unittest.mock.patch.dict(os.environ, BUSINESS_NAME="bu1", MPLBACKEND="agg")
        with variables, contextlib.redirect_stdout(printed):
            for cell in cells:
                if cell["cell_type"] == "code":
                    exec(compile("".join(cell["source"]), NOTEBOOK.name, "exec"), names)
        self.addCleanup(names["environment"].close)
        self.assertEqual(len(names["calm"]), 42)
        self.assertEqual(len(names["stressed"]), 42)
        self.assertEqual(names["lost"] is None, shutil.which("kubectl") is None)
        self.assertTrue(all(change > 0 for change in names["changes"].values()), printed.getvalue())
        self.assertEqual(len(printed.getvalue().splitlines()), 42 if names["figure"] else 84)


if __name__ == "__main__":
    unittest.main()
