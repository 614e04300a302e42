"""Functions with ``@deskgrid.engine``, alone and in a pool that runs ``python -m deskgrid.worker desk:price``."""

from __future__ import annotations

import importlib
import json
import unittest
import uuid
from pathlib import Path
from typing import Any

import deskgrid
from deskgrid import _engine


class EngineTest(unittest.TestCase):
    def check(self, item: bytes, expected: list[dict[str, Any]]) -> None:
        self.assertEqual(_engine.rows(item), expected)

    def test_rows_have_numbers_and_texts(self) -> None:
        self.check(b"\xef\xbb\xbfid,strike,option,is_new,rate\n007,1e2,call,true,\n8,-1.5,01,false,NaN\n", [
            {"id": "007", "strike": 100.0, "option": "call", "is_new": True, "rate": None},
            {"id": "8", "strike": -1.5, "option": "01", "is_new": False, "rate": "NaN"},
        ])
        self.check(b'{"n": 1}\n', [{"n": 1}])
        self.check(b'[{"n": "01"}]', [{"n": "01"}])
        for wrong in (b"id,strike\nonly-one\n", b"{", b"\xff"):
            self.assertRaises(ValueError, _engine.rows, wrong)

    def test_values_have_the_ids_of_their_rows(self) -> None:
        rows = [{"id": "a"}, {"id": "b"}]
        for returned, expected in (
            ([1, 2], [{"id": "a", "value": 1}, {"id": "b", "value": 2}]),
            ([{"price": 1}, {"id": "c", "error": "no"}], [{"id": "a", "price": 1}, {"id": "c", "error": "no"}]),
            ([{"id": "a/up", "value": 1}], [{"id": "a/up", "value": 1}]),
            ({"price": 1}, {"price": 1}),
            (3, 3),
        ):
            self.assertEqual(_engine.values(rows, returned), expected)
        self.assertEqual(_engine.values([{"n": 1}], [5]), {"value": 5})
        for wrong in (None, [], [1], [1, 2, 3]):
            self.assertRaises(ValueError, _engine.values, rows, wrong)
        self.assertRaises(ValueError, _engine.values, [{"n": 1}, {"n": 2}], [1, 2])

    def test_values_of_numpy_and_pandas(self) -> None:
        rows = [{"id": "a"}, {"id": "b"}]
        expected = [{"id": "a", "value": 1.0}, {"id": "b", "value": 2.0}]
        for name, make in (("numpy", "array"), ("pandas", "Series"), ("polars", "Series")):
            try:
                of = getattr(importlib.import_module(name), make)
            except ImportError:
                continue
            self.assertEqual(_engine.values(rows, of([1.0, 2.0])), expected)

    def test_only_a_marked_function_is_a_program(self) -> None:
        for wrong in ("desk", "desk:json", "desk:missing"):
            self.assertRaises(SystemExit, _engine.load, wrong, Path("."))

    def test_a_pool_computes_the_rows_of_a_session(self) -> None:
        with deskgrid.connect():
            session = deskgrid.Session(f"python-{uuid.uuid4().hex[:8]}", business="bu3")
            trades = [{"id": name, "strike": strike} for name, strike in (("a", 90), ("b", 95.5), ("007", 120), ("d", -1))]
            session.submit(trades, rows_per_item=2, common={"market.json": json.dumps({"spot": 100})})
            counts = session.wait(60)
            self.assertEqual((counts.succeeded, counts.failed), (1, 1), session.failures())
            (cause,) = session.failures()
            self.assertIn("ValueError: a strike is negative", str(cause))
            found = [(row["row"], row["measure"], row["value"], row["standard_error"]) for row in session.results()]
            self.assertEqual(found[:2], [("a", "price", 10.0, 0.5), ("b", "price", 4.5, 0.5)])


if __name__ == "__main__":
    unittest.main()
