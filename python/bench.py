"""The import, and 10,000 small calls by ``map``, beside Ray and Dask in the same run; each is skipped where it is not installed.

    cargo xtask bench --only python

runs it on a laptop cloud, as ``DESKGRID_CONFIG=config.json python3 bench.py BUSINESS``. It prints a JSON document a line.
Each system is warm, has two processes or more, and gets the same chunks. Ray and Dask keep calls and results in memory;
Deskgrid has written each outcome when its future is done.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

CALLS = 10_000
CHUNKS = (100, 10, 1)
RUNS = 3
PROCESSES = 2


def compute(numbers: list[int]) -> list[int]:
    return [-number for number in numbers]


def deskgrid_map() -> Callable[[int], object]:
    import deskgrid

    deskgrid.connect()
    executor = deskgrid.Executor(business=sys.argv[1])
    return lambda chunk: list(executor.map(lambda number: -number, range(CALLS), chunksize=chunk))


def ray_map() -> Callable[[int], object]:
    import ray

    ray.init(num_cpus=PROCESSES, include_dashboard=False, log_to_driver=False, logging_level="error")
    remote = ray.remote(compute)
    return lambda chunk: ray.get([remote.remote(numbers) for numbers in chunks(chunk)])


def dask_map() -> Callable[[int], object]:
    from distributed import Client

    client = Client(n_workers=PROCESSES, threads_per_worker=1, dashboard_address=None)
    return lambda chunk: client.gather(client.map(compute, chunks(chunk), pure=False))


def chunks(size: int) -> list[list[int]]:
    return [list(range(first, min(first + size, CALLS))) for first in range(0, CALLS, size)]


def import_seconds(system: str) -> float:
    """How much longer Python runs when it imports this."""

    def seconds(code: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        return time.perf_counter() - started

    found = [(seconds(f"import {system}"), seconds("pass")) for _ in range(RUNS)]
    return statistics.median(imported - bare for imported, bare in found)


def main() -> None:
    for name, start in (("deskgrid", deskgrid_map), ("ray", ray_map), ("dask", dask_map)):
        try:
            call = start()
        except ImportError as error:
            print(json.dumps({"system": name, "why": str(error)}), flush=True)
            continue
        print(json.dumps({"system": name, "import_seconds": import_seconds(name)}), flush=True)
        for chunk in CHUNKS:
            call(chunk)
            seconds = []
            for _ in range(RUNS):
                started = time.perf_counter()
                call(chunk)
                seconds.append(time.perf_counter() - started)
            rate = CALLS / statistics.median(seconds)
            print(json.dumps({"system": name, "chunk": chunk, "calls_per_second": rate}), flush=True)


if __name__ == "__main__":
    main()
