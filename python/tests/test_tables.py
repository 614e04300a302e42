"""Tables of pandas, Polars and Arrow, each where it is installed."""

from __future__ import annotations

import datetime
import importlib
import tempfile
import unittest
from pathlib import Path
from typing import Any

import deskgrid
from deskgrid import _session

ROWS = [{"id": "a", "strike": 1.5, "weights": [1, 2]}, {"id": "b", "strike": None, "weights": [3]}]
ROW = {"session": "s", "job": "j", "row": "t1", "measure": "price", "standard_error": None, "error": None}
RESULTS = deskgrid.Results([{**ROW, "value": 1.5, "standard_error": 0.1}, {**ROW, "measure": "text", "value": "none"}])


def module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise unittest.SkipTest(f"{name} is not installed") from None


class TablesTest(unittest.TestCase):
    def check(self, table: Any) -> None:
        self.assertEqual(_session._csv(_session.records(table)), "id,strike,weights\na,1.5,1;2\nb,,3\n")

    def test_rows(self) -> None:
        self.check(ROWS)
        self.check(iter(ROWS))

    def test_lines_of_json(self) -> None:
        rows = [{"day": datetime.date(2026, 1, 2), "n": 1}]
        self.assertEqual(_session._ndjson(rows), '{"day": "2026-01-02", "n": 1}\n')
        for wrong in (object(), float("nan")):
            self.assertRaises((TypeError, ValueError), _session._ndjson, [{"n": wrong}])

    def test_pandas(self) -> None:
        pandas = module("pandas")
        self.check(pandas.DataFrame(ROWS))
        self.check(pandas.DataFrame(ROWS).convert_dtypes())
        self.assertEqual(list(RESULTS.to_pandas()["value"]), [1.5, "none"])
        if hasattr(pandas.DataFrame, "from_arrow") and module("pyarrow"):
            self.assertEqual(list(pandas.DataFrame.from_arrow(RESULTS)["text"])[1], "none")

    def test_polars(self) -> None:
        polars = module("polars")
        self.check(polars.DataFrame(ROWS))
        module("pyarrow")
        table = polars.DataFrame(RESULTS)
        self.assertEqual(table["value"].to_list(), [1.5, None])
        self.assertEqual(table["text"].to_list(), [None, "none"])

    def test_arrow(self) -> None:
        pyarrow = module("pyarrow")
        self.check(pyarrow.Table.from_pylist(ROWS))
        table = RESULTS.to_arrow()
        self.assertEqual(pyarrow.RecordBatchReader.from_stream(RESULTS).read_all(), table)
        self.assertEqual(table["text"].to_pylist(), [None, "none"])
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "results.parquet")
            RESULTS.to_parquet(path)
            self.assertEqual(module("pyarrow.parquet").read_table(path), table)
        self.assertEqual(deskgrid.Results().to_arrow().num_rows, 0)


if __name__ == "__main__":
    unittest.main()
