"""CPython's own tests of executors, where this Python has them (from 3.12 on), against the pool.

Left out: tests of ``max_workers``, since the environment file sets the size of a pool; tests that start
``ThreadPoolExecutor`` or ``ProcessPoolExecutor`` by name; and tests whose calls wait for an event of this process, which a
call in another pod cannot see.
"""

from __future__ import annotations

import importlib
import importlib.util
import unittest
import uuid
from typing import Any

import deskgrid

LEFT_OUT = {
    "test_max_workers_negative",
    "test_max_workers_too_large",
    # They start an executor of the standard library by name.
    "test_interpreter_shutdown",
    "test_submit_after_interpreter_shutdown",
    "test_hang_gh83386",
    "test_hang_gh94440",
    # They share an event with their calls.
    "test_first_completed",
    "test_first_completed_some_already_completed",
    "test_first_exception",
    "test_first_exception_one_already_failed",
    "test_first_exception_some_already_complete",
    "test_timeout",
}
MIXINS = (("executor", "ExecutorTest"), ("test_shutdown", "ExecutorShutdownTest"), ("test_wait", "WaitTests"))
MIXINS += (("test_as_completed", "AsCompletedTests"),)


def load_tests(loader: unittest.TestLoader, tests: unittest.TestSuite, pattern: str | None) -> unittest.TestSuite:
    """The tests of each mixin, with our executor."""
    missing = [name for name in ("test.test_concurrent_futures.executor", "cloudpickle") if not _is_installed(name)]
    if missing:
        skipped = unittest.skip(f"not installed: {', '.join(missing)}")(type("CPythonTest", (_Base,), {"test": None}))
        tests.addTest(skipped("test"))
        return tests
    for module, mixin in MIXINS:
        found: Any = getattr(importlib.import_module(f"test.test_concurrent_futures.{module}"), mixin)
        left_out = {name: None for name in dir(found) if name in LEFT_OUT}
        case = type(f"CPython{mixin}", (_Base, found, unittest.TestCase), left_out)
        tests.addTests(loader.loadTestsFromTestCase(case))
    return tests


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


class _Base(unittest.TestCase):
    worker_count = 4

    def setUp(self) -> None:
        environment = deskgrid.connect()
        self.addCleanup(environment.close)
        session = f"python-{uuid.uuid4().hex[:8]}"
        self.executor: Any = deskgrid.Executor(business="bu2", session=session, max_in_flight=self.worker_count)
        self.addCleanup(self.executor.shutdown)


if __name__ == "__main__":
    unittest.main()
