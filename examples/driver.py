"""Submits files, waits until they are computed, and reads every number into one table.

python3 examples/driver.py examples/pricing    (BUSINESS_NAME in the environment when there are several)
"""

import csv, io, os, subprocess, sys, uuid

program = os.environ.get("DESKGRID", "cargo xtask").split()
session = f"driver-{uuid.uuid4().hex[:8]}"
ended = subprocess.run([*program, "submit", "--session", session, "--wait", *sys.argv[1:]])
table = subprocess.run([*program, "results", "--session", session, "--format", "csv"], check=True, stdout=subprocess.PIPE)
rows = list(csv.DictReader(io.StringIO(table.stdout.decode())))
for row in rows:
    print(row["job"], row["row"], row["measure"], row["value"], row["standard_error"], row["error"])
print(f"{len(rows)} rows, prices together:", sum(float(row["value"]) for row in rows if row["measure"] == "price"))
sys.exit(ended.returncode)
