"""The executor, against a pool that runs ``python -m deskgrid.worker``."""

from __future__ import annotations

import concurrent.futures
import importlib.util
import operator
import os
import pickle
import subprocess
import sys
import threading
import time
import unittest
import unittest.mock
import uuid

import deskgrid
from deskgrid import _executor, _packages


def fail(text: str) -> None:
    raise ValueError(text)


class Unreadable(Exception):
    """An exception that can be pickled and not read."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


def unreadable() -> None:
    raise Unreadable("a", "b")


@unittest.skipUnless(importlib.util.find_spec("cloudpickle"), "cloudpickle is not installed")
class ExecutorTest(unittest.TestCase):
    environment: deskgrid.Environment

    @classmethod
    def setUpClass(cls) -> None:
        import cloudpickle

        # The pool does not have this module.
        cloudpickle.register_pickle_by_value(sys.modules[__name__])
        cls.environment = deskgrid.connect()
        cls.addClassCleanup(cls.environment.close)

    def executor(self, **options: object) -> deskgrid.Executor:
        executor = deskgrid.Executor(business="bu2", session=f"python-{uuid.uuid4().hex[:8]}", **options)
        self.addCleanup(executor.shutdown)
        return executor

    def test_calls_are_computed_in_the_pool(self) -> None:
        executor = self.executor()
        self.assertIsInstance(executor, concurrent.futures.Executor)
        offset = 3
        # A closure is sent with its code, and other processes compute it.
        future = executor.submit(lambda x, *, y: (x * y + offset, os.getpid()), 4, y=10)
        value, process = future.result(timeout=60)
        self.assertEqual(value, 43)
        self.assertNotEqual(process, os.getpid())
        self.assertEqual(list(executor.map(pow, range(10), [2] * 10, timeout=60)), [n * n for n in range(10)])
        self.assertEqual(list(executor.map(operator.neg, range(25), chunksize=10)), [-n for n in range(25)])
        self.assertEqual(list(executor.map(operator.neg, [])), [])
        futures = [executor.submit(operator.add, 1, n) for n in range(200)]
        concurrent.futures.wait(futures, timeout=60)
        self.assertEqual([one.result() for one in futures], [n + 1 for n in range(200)])

    def test_large_functions_and_values_are_sent_and_returned(self) -> None:
        executor = self.executor()
        table = bytes(100_000)
        found = list(executor.map(lambda n: len(table) + n, range(5), timeout=60))
        self.assertEqual(found, [100_000 + n for n in range(5)])
        self.assertEqual(executor.submit(bytes, 1_000_000).result(timeout=60), bytes(1_000_000))
        self.assertEqual(executor.submit(len, bytes(1_000_000)).result(timeout=60), 1_000_000)

    def test_an_exception_has_the_traceback_of_the_pool(self) -> None:
        executor = self.executor()
        error = executor.submit(fail, "no strike").exception(timeout=60)
        self.assertIsInstance(error, ValueError)
        self.assertEqual(str(error), "no strike")
        self.assertIn("in fail\n", str(error.__cause__))
        results = executor.map(divmod, [1, 1, 1], [1, 0, 1], timeout=60)
        self.assertEqual(next(results), (1, 0))
        self.assertRaises(ZeroDivisionError, next, results)
        self.assertIn("Unreadable: a", str(executor.submit(unreadable).exception(timeout=60)))
        self.assertIsInstance(executor.submit(threading.Lock).exception(timeout=60), (TypeError, pickle.PicklingError))
        self.assertIsInstance(executor.submit(len, threading.Lock()).exception(timeout=60), TypeError)
        self.assertIsInstance(executor.submit(exit, 3).exception(timeout=60), SystemExit)

    def test_a_call_that_ends_its_process_fails_alone(self) -> None:
        executor = self.executor()
        bad = executor.submit(os._exit, 7)
        good = [executor.submit(abs, -n) for n in range(5)]
        error = bad.exception(timeout=60)
        self.assertIsInstance(error, deskgrid.DeskgridError)
        self.assertIn("item 0", str(error.on))
        self.assertEqual([one.result(timeout=60) for one in good], list(range(5)))
        self.assertEqual(executor.session.wait(60).failed, 1)

    def test_what_a_function_prints_or_reads_disturbs_nothing(self) -> None:
        def disturb() -> bytes:
            print("printed")
            os.system("echo from a program")
            return os.read(0, 10)

        self.assertEqual(self.executor().submit(disturb).result(timeout=60), b"")

    def test_calls_that_are_not_sent_can_be_cancelled(self) -> None:
        executor = self.executor(max_in_flight=2)
        futures = [executor.submit(time.sleep, 0.1) for _ in range(30)]
        futures[0].result(timeout=60)
        executor.shutdown(cancel_futures=True)
        cancelled = [one for one in futures if one.cancelled()]
        self.assertGreater(len(cancelled), 20)
        others = [one for one in futures if not one.cancelled()]
        self.assertGreater(len(others), 0)
        self.assertEqual({one.exception() for one in others}, {None})
        self.assertRaises(RuntimeError, executor.submit, abs, 1)

    def test_a_cancelled_session_ends_its_calls(self) -> None:
        executor = self.executor()
        executor.session.pause()
        future = executor.submit(abs, -1)
        deadline = time.monotonic() + 60
        while len(executor.session.jobs()) < 2 and time.monotonic() < deadline:
            pass
        executor.session.cancel()
        error = future.exception(timeout=60)
        self.assertIn("cancelled", str(error))

    def test_spawned_calls_outlive_their_process(self) -> None:
        code = """if True:
            import deskgrid, sys
            deskgrid.connect()
            executor = deskgrid.Executor(business="bu2", session=sys.argv[1])
            print(executor.spawn_map(lambda x, y: x * y, range(10), [3] * 10, chunksize=3).id)
        """
        command = [sys.executable, "-c", code, f"python-{uuid.uuid4().hex[:8]}"]
        id = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        spawned = deskgrid.attach(id)
        self.assertEqual(spawned.id, id)
        self.assertEqual(list(spawned.results(timeout=60)), [3 * n for n in range(10)])

    def test_spawned_calls_are_like_those_of_map(self) -> None:
        executor = self.executor()
        with unittest.mock.patch.object(_executor, "_BATCH_ITEMS_MAX", 2):
            spawned = executor.spawn_map(operator.neg, range(5))
        self.assertEqual(len(executor.session.jobs()), 4)
        self.assertEqual(list(spawned.results(timeout=60)), [-n for n in range(5)])
        results = executor.spawn_map(divmod, [1, 1], [1, 0]).results(timeout=60)
        self.assertEqual(next(results), (1, 0))
        self.assertRaises(ZeroDivisionError, next, results)
        executor.session.pause()
        waiting = executor.spawn_map(abs, [1])
        self.assertRaises(TimeoutError, list, waiting.results(timeout=0.2))
        waiting.cancel()
        with self.assertRaisesRegex(deskgrid.DeskgridError, "cancelled"):
            list(waiting.results(timeout=60))
        for wrong in (f"bu2/{executor.session.name}/map", "bu2"):
            self.assertRaises(deskgrid.DeskgridError, deskgrid.attach, wrong)
        self.assertRaises(deskgrid.DeskgridError, executor.spawn_map, abs, [])
        self.assertRaises(ValueError, executor.spawn_map, abs, [1], chunksize=0)
        executor.shutdown()
        self.assertRaises(RuntimeError, executor.spawn_map, abs, [1])

    def test_another_environment_is_refused_before_anything_is_submitted(self) -> None:
        here = dict(_packages.installed())
        self.assertEqual(_packages.differences(here, here), [])
        there = {**here, "python": "CPython 3.9.0", "numpy": "0.1"}
        self.assertEqual(len(_packages.differences(here, there)), 2)
        self.assertEqual(len(_packages.differences(here, there, ["cloudpickle"])), 1)
        with unittest.mock.patch.object(_packages, "installed", lambda: {**here, "made-up": "1.0"}):
            with self.assertRaises(deskgrid.DeskgridError) as refused:
                self.executor()
            self.assertEqual(refused.exception.code, "environment-differs")
            self.assertEqual(refused.exception.why, "made-up: 1.0 here, not installed in the pool")
            self.executor(packages=["cloudpickle"])

    def test_a_pool_without_the_worker_is_refused(self) -> None:
        with self.assertRaises(deskgrid.DeskgridError) as refused:
            deskgrid.Executor(business="bu1")
        self.assertEqual(refused.exception.code, "environment-differs")


if __name__ == "__main__":
    unittest.main()
