"""The same prices as those of price.py, by a program that stays: it starts once and prices one item after another.

An item on standard input is a line of JSON with its length, and its bytes; the answer on standard output likewise.
"""

import csv
import io
import json
import sys

from price import price


def compute(table):
    trades = [{"id": row["id"], "price": price(row)} for row in csv.DictReader(io.StringIO(table))]
    return json.dumps({"kernel": "black-scholes", "trades": trades}).encode()


def main():
    items, answers = sys.stdin.buffer, sys.stdout.buffer
    # What a library prints must not stand among the answers.
    sys.stdout = sys.stderr
    while header := items.readline():
        table = items.read(json.loads(header)["length"])
        try:
            result = compute(table.decode())
            answer = {"length": len(result), "content_type": "application/json"}
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            result, answer = b"", {"error": repr(error), "permanent": True}
        answers.write(json.dumps(answer).encode() + b"\n" + result)
        answers.flush()


main()
