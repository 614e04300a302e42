"""Sessions of a business with a pool, whose engines run the built-in kernel."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tempfile
import time
import unittest
import uuid
from pathlib import Path

import deskgrid

MARKET = {
    "schema": 1,
    "seed": 1,
    "paths": 1000,
    "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0.01}},
}


def trade(name: str, **changes: object) -> dict[str, object]:
    european = {"id": name, "kind": "european", "option": "call", "underlying": "A", "strike": 100, "maturity": 1}
    return {**european, **changes}


class SessionTest(unittest.TestCase):
    environment: deskgrid.Environment

    @classmethod
    def setUpClass(cls) -> None:
        cls.environment = deskgrid.connect()
        cls.addClassCleanup(cls.environment.close)

    def session(self) -> deskgrid.Session:
        return deskgrid.Session(f"python-{uuid.uuid4().hex[:8]}", business="bu1")

    def test_files_are_jobs(self) -> None:
        session = self.session()
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, name) for name in ("a.txt", "b.txt")]
            for path in paths:
                path.write_text(f"payload of {path.name}")
            submitted = session.submit(paths)
            # The same again sends nothing twice.
            self.assertEqual(session.submit(paths), submitted)
        self.assertEqual([one.job for one in submitted], ["a.txt", "b.txt"])
        found = {one.job: one for one in session.outcomes(submitted, timeout=60)}
        self.assertEqual(sorted(found), ["a.txt", "b.txt"])
        self.assertTrue(all(one.succeeded for one in found.values()))
        self.assertEqual(found["a.txt"].json()["payload"], "payload of a.txt")
        counts = session.wait(60, progress=False)
        self.assertEqual((counts.succeeded, counts.total, counts.pending), (2, 2, 0))
        self.assertEqual([row["value"] for row in session.results()], ["payload of a.txt", "payload of b.txt"])
        self.assertEqual(session.failures(), [])

    def test_many_small_files_are_items_with_names(self) -> None:
        session = self.session()
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder, f"{number:03}.txt") for number in range(501)]
            for number, path in enumerate(paths):
                path.write_text(f"payload {number}")
            submitted = session.submit(paths)
            self.assertEqual(session.submit(paths), submitted)
        self.assertEqual([one.job for one in submitted], ["files.tar"])
        found = {one.name: one for one in session.outcomes(submitted, timeout=60)}
        self.assertEqual(len(found), 501)
        self.assertEqual(found["007.txt"].json()["payload"], "payload 7")

    def test_rows_are_a_table_with_an_item_for_each(self) -> None:
        session = self.session()
        rows = [trade(f"t{index}", strike=100 + index) for index in range(10)]
        (job,) = session.submit(rows, rows_per_item=2, common={"market.json": MARKET})
        outcomes = sorted(session.outcomes([job], timeout=60), key=lambda one: one.index)
        self.assertEqual([one.index for one in outcomes], list(range(5)))
        self.assertEqual(outcomes[1].json()["trades"][0]["id"], "t2")
        results = session.results()
        prices = {row["row"]: row["value"] for row in results if row["measure"] == "price"}
        self.assertEqual(sorted(prices), [f"t{index}" for index in range(10)])
        self.assertGreater(prices["t0"], prices["t9"])
        self.assertEqual(set(results[0]), set(results.columns))

    def test_lines_are_items(self) -> None:
        session = self.session()
        session.submit([{"n": index} for index in range(100)], lines=True)
        seen = {one.index: one for one in session.outcomes(timeout=60)}
        self.assertEqual(sorted(seen), list(range(100)))

    def test_a_table_that_cannot_be_priced_is_refused_before_it_is_uploaded(self) -> None:
        session = self.session()
        with self.assertRaises(deskgrid.DeskgridError) as refused:
            session.submit([trade("a", strike=-1)], common={"market.json": MARKET})
        self.assertEqual(refused.exception.code, "malformed-table")
        self.assertIn("strike", str(refused.exception.why))
        self.assertIn("nothing was uploaded", str(refused.exception.next))
        self.assertEqual(session.jobs(), [])
        again = pickle.loads(pickle.dumps(refused.exception))
        self.assertEqual(str(again), str(refused.exception))

    def test_failures_have_causes_and_are_retried(self) -> None:
        session = self.session()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "bad.json")
            path.write_text('{"trades": [{}]}')
            submitted = session.submit(path)
        (outcome,) = session.outcomes(submitted, timeout=60)
        self.assertEqual((outcome.state, outcome.result), ("failed", None))
        self.assertEqual(session.wait(60).failed, 1)
        (cause,) = session.failures()
        self.assertEqual((cause["code"], cause["examples"]), (outcome.code, ["bad.json"]))
        with self.assertRaises(deskgrid.DeskgridError) as failed:
            outcome.json()
        self.assertEqual(failed.exception.why, outcome.message)
        session.pause()
        self.assertEqual(session.retry("bad.json", failed=True), ["bad.json"])
        # The outcome of the attempt before does not count.
        for jobs in (submitted, None):
            self.assertRaises(TimeoutError, list, session.outcomes(jobs, timeout=0.2))
        self.assertEqual(session.jobs()[0]["state"], "waiting")
        session.resume()
        (again,) = session.outcomes(timeout=60)
        self.assertEqual((again.state, again.attempt), ("failed", 1))
        self.assertEqual(session.wait(60).failed, 1)
        with self.assertRaises(deskgrid.DeskgridError) as unknown:
            session.retry("nobody")
        self.assertEqual(unknown.exception.code, "no-such-job")

    def test_a_paused_session_waits_and_can_be_cancelled(self) -> None:
        session = self.session()
        session.pause()
        session.submit([{"n": index} for index in range(3)], lines=True)
        with self.assertRaises(TimeoutError):
            list(session.outcomes(timeout=0.5))
        with self.assertRaises(deskgrid.DeskgridError) as waiting:
            session.wait(1)
        self.assertEqual(waiting.exception.code, "not-settled")
        session.cancel()
        self.assertEqual({one.state for one in session.outcomes(timeout=60)}, {"cancelled"})
        self.assertEqual(session.wait(60).succeeded, 0)

    def test_a_resumed_session_goes_on(self) -> None:
        session = self.session()
        session.pause()
        session.submit([{"n": 1}], lines=True)
        session.resume()
        counts = session.wait(60)
        # The kernel cannot price it.
        self.assertEqual((counts.failed, counts.total), (1, 1))

    def test_an_iterator_that_is_left_stops_its_call(self) -> None:
        session = self.session()
        session.submit([{"n": 1}], lines=True, job="first")
        session.wait(60)
        session.pause()
        session.submit([{"n": 1}], lines=True, job="second")
        outcomes = session.outcomes()
        self.assertEqual(next(outcomes).job, "first")
        outcomes.close()
        deadline = time.monotonic() + 30
        while self.environment.pipe._receivers and time.monotonic() < deadline:
            self.environment.verb("session", "list", "--business=bu1")
        self.assertEqual(self.environment.pipe._receivers, {})
        session.cancel()

    def test_wrong_names_are_refused(self) -> None:
        for call, code in (
            (lambda: deskgrid.Session("x", business="nobody"), "usage"),
            (lambda: deskgrid.Session("..", business="bu1").submit([{"n": 1}], lines=True), "usage"),
            (lambda: deskgrid.Session("x", business="bu1").submit([]), "nothing-to-submit"),
            (lambda: deskgrid.Session("x", business="bu1").submit("/nowhere"), "no-such-file"),
            (lambda: deskgrid.Session("missing", business="bu1").results(), "no-results"),
            (lambda: deskgrid.Session("missing", business="bu1").wait(1), "no-such-session"),
            (lambda: deskgrid.Environment("/nowhere.json"), "failed"),
        ):
            with self.assertRaises(deskgrid.DeskgridError) as refused:
                call()
            self.assertEqual(refused.exception.code, code, refused.exception)

    def test_a_closed_connection_says_so(self) -> None:
        environment = deskgrid.Environment()
        session = deskgrid.Session("x", business="bu1", environment=environment)
        environment.close()
        with self.assertRaises(deskgrid.DeskgridError) as closed:
            session.results()
        self.assertEqual(closed.exception.code, "connection-closed")

    def test_a_program_that_dies_is_an_error(self) -> None:
        environment = deskgrid.Environment()
        self.addCleanup(environment.close)
        environment.pipe._child.kill()
        deadline = time.monotonic() + 30
        code = ""
        while code != "program-ended" and time.monotonic() < deadline:
            with self.assertRaises(deskgrid.DeskgridError) as ended:
                environment.verb("session", "wait", "--business=bu1", "missing")
            code = ended.exception.code
        self.assertEqual(code, "program-ended")

    def test_the_import_needs_nothing_else(self) -> None:
        forbidden = ("pandas", "polars", "pyarrow", "numpy", "cloudpickle")
        code = f"import sys, deskgrid; sys.exit(any(name in sys.modules for name in {forbidden}))"
        subprocess.run([sys.executable, "-c", code], check=True)


if __name__ == "__main__":
    unittest.main()
