"""A desk's own program, as Deskgrid wraps it: prices a CSV of European options with the formula of Black and Scholes.

It knows nothing of any cloud: trades come on standard input, the result goes to the file that DESKGRID_RESULT names.
For an item of a pack, the table has the rows of the item only. Exit code 2 says that the input can never work.
"""

import csv
import json
import math
import os
import sys


def normal_distribution(x):
    return 0.5 * math.erfc(-x / math.sqrt(2.0))


def price(row):
    spot, strike, rate, volatility, maturity = (
        float(row[name]) for name in ("spot", "strike", "rate", "volatility", "maturity")
    )
    sign = {"call": 1.0, "put": -1.0}[row["option"]]
    deviation = volatility * math.sqrt(maturity)
    d1 = (math.log(spot / strike) + rate * maturity) / deviation + 0.5 * deviation
    discounted_strike = strike * math.exp(-rate * maturity)
    return sign * (
        spot * normal_distribution(sign * d1) - discounted_strike * normal_distribution(sign * (d1 - deviation))
    )


def main():
    reader = csv.DictReader(sys.stdin)
    trades = []
    for row in reader:
        try:
            trades.append({"id": row["id"], "price": price(row)})
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            print(f"line {reader.line_num}: {error!r}", file=sys.stderr)
            sys.exit(2)
    with open(os.environ["DESKGRID_RESULT"], "w", encoding="utf-8") as result:
        json.dump({"kernel": "black-scholes", "trades": trades}, result)


if __name__ == "__main__":
    main()
