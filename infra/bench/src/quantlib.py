"""Paths and steps a second of QuantLib's Monte Carlo engines, on one core. Argument: how much to compute."""
import json
import sys
import time

import QuantLib as ql

SCALE = int(sys.argv[1])
TODAY = ql.Date(2, 1, 2025)
ql.Settings.instance().evaluationDate = TODAY
COUNT = ql.Actual365Fixed()


def process():
    spot = ql.QuoteHandle(ql.SimpleQuote(100.0))
    rate = ql.YieldTermStructureHandle(ql.FlatForward(TODAY, 0.01, COUNT))
    dividend = ql.YieldTermStructureHandle(ql.FlatForward(TODAY, 0.0, COUNT))
    volatility = ql.BlackVolTermStructureHandle(ql.BlackConstantVol(TODAY, ql.NullCalendar(), 0.2, COUNT))
    return ql.BlackScholesMertonProcess(spot, dividend, rate, volatility)


def timed(option, engine):
    option.setPricingEngine(engine)
    begun = time.perf_counter()
    option.NPV()
    return time.perf_counter() - begun


def european():
    paths = 2_000_000 * SCALE
    exercise = ql.EuropeanExercise(TODAY + 365)
    option = ql.EuropeanOption(ql.PlainVanillaPayoff(ql.Option.Call, 100.0), exercise)
    engine = ql.MCEuropeanEngine(process(), "PseudoRandom", timeSteps=1, requiredSamples=paths, seed=1)
    return paths / timed(option, engine)


def asian():
    paths, dates = 50_000 * SCALE, 52
    fixings = [TODAY + round(365 * (i + 1) / dates) for i in range(dates)]
    exercise = ql.EuropeanExercise(TODAY + 365)
    payoff = ql.PlainVanillaPayoff(ql.Option.Call, 100.0)
    option = ql.DiscreteAveragingAsianOption(ql.Average.Arithmetic, 0.0, 0, fixings, payoff, exercise)
    engine = ql.MCDiscreteArithmeticAPEngine(process(), "PseudoRandom", requiredSamples=paths, seed=1)
    return paths * dates / timed(option, engine)


print(json.dumps({"european_paths_per_second": european(), "asian_steps_per_second": asian()}))
