"""The types of the package, as mypy checks them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import unittest
from pathlib import Path


class TypesTest(unittest.TestCase):
    @unittest.skipUnless(importlib.util.find_spec("mypy"), "mypy is not installed")
    def test_the_package_is_strictly_typed(self) -> None:
        folder = Path(__file__).parent.parent
        command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir=/dev/null", "deskgrid"]
        checked = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


if __name__ == "__main__":
    unittest.main()
