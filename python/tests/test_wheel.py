"""The wheel in a fresh virtual environment with nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
SCRIPT = """
import deskgrid
session = deskgrid.Session("of-the-wheel", business="bu1", environment=deskgrid.Environment())
session.submit([{"n": 1}], lines=True)
assert session.wait(60).total == 1
"""


class WheelTest(unittest.TestCase):
    @unittest.skipUnless(shutil.which("maturin"), "maturin is not installed")
    def test_the_wheel_has_all_that_sessions_need(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run("maturin", "build", "--quiet", "--profile", "dev", "--out", str(folder / "wheels"))
            (wheel,) = folder.glob("wheels/*.whl")
            run(sys.executable, "-m", "venv", str(folder / "venv"))
            python = str(folder / "venv" / "bin" / "python")
            run(python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(wheel))
            run(python, "-c", SCRIPT)
            run(str(folder / "venv" / "bin" / "deskgrid"), "--version")


def run(*command: str) -> None:
    hidden = ("PYTHONPATH", "DESKGRID_PROGRAM")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    subprocess.run(command, cwd=PACKAGE, env=environment, check=True)


if __name__ == "__main__":
    unittest.main()
