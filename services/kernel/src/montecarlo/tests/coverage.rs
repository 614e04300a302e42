//! What is said to be the error of a price is its error: over many seeds, 95 % intervals hold the truth.

use super::{
    closed::{Case, asian, barrier_case, basket_case, european_case, one_trade},
    formulas::Point,
    *,
};

/// A point with one underlying at 100.
fn at(volatility: f64, strike: f64, maturity: f64, sign: f64) -> Point {
    Point {
        spot: [SPOT; 2],
        volatility: [volatility; 2],
        dividend_yield: [0.01; 2],
        rate: 0.03,
        correlation: 0.4,
        strike,
        maturity,
        passed: 0.0,
        sign,
    }
}

/// Inputs near and far from the money, with little and much volatility.
fn grid() -> Vec<Case> {
    let mut cases = Vec::new();
    // European options.
    for (volatility, maturity) in [(0.05, 1.0), (0.2, 0.5), (0.6, 2.0), (1.5, 1.0), (2.0, 5.0), (5.0, 1.0), (10.0, 1.0)]
    {
        for strike in [60.0, 100.0, 150.0] {
            cases.push(european_case(at(volatility, strike, maturity, 1.0)));
        }
        if volatility != 0.6 && volatility != 1.5 {
            cases.push(european_case(at(volatility, 120.0, maturity, -1.0)));
        }
    }
    // Averages.
    for (volatility, strike, sign) in [
        (0.2, 100.0, 1.0),
        (0.2, 150.0, 1.0),
        (0.2, 60.0, -1.0),
        (0.8, 200.0, 1.0),
        (2.0, 100.0, 1.0),
        (2.0, 100.0, -1.0),
        (0.1, 80.0, 1.0),
    ] {
        cases.push(asian("", at(volatility, strike, 1.0, sign), Averaging::Geometric, 12));
        cases.push(asian("", at(volatility, strike, 1.0, sign), Averaging::Arithmetic, 2));
        cases.push(asian("", at(volatility, strike, 0.25, sign), Averaging::Geometric, 52));
    }
    cases.push(asian("", at(2.0, 400.0, 5.0, 1.0), Averaging::Geometric, 5));
    // Barriers.
    let dates = |observations| Monitoring::Discrete { observations };
    for monitoring in [Monitoring::Continuous, dates(1), dates(4), dates(24)] {
        for (volatility, strike, level, up, knock_in, sign) in [
            (0.2, 100.0, 130.0, true, false, 1.0),
            (0.2, 100.0, 80.0, false, false, 1.0),
            (0.2, 100.0, 150.0, true, true, 1.0),
            (0.2, 110.0, 90.0, false, true, 1.0),
            (0.4, 160.0, 90.0, false, false, 1.0),
            (2.0, 100.0, 50.0, false, false, 1.0),
            (2.0, 100.0, 300.0, true, true, -1.0),
            (0.01, 1.0, 104.0, true, false, 1.0),
        ] {
            cases.push(barrier_case(at(volatility, strike, 1.0, sign), level, up, knock_in, monitoring));
        }
    }
    // Baskets.
    let two =
        |volatility: [f64; 2], strike, sign| Point { spot: [SPOT, 95.0], volatility, ..at(0.2, strike, 1.0, sign) };
    for (volatility, strikes) in
        [([0.2, 0.3], [100.0, 150.0]), ([0.1, 1.5], [95.0, 250.0]), ([2.0, 2.0], [100.0, 400.0])]
    {
        for strike in strikes {
            cases.push(basket_case(two(volatility, strike, 1.0), BasketType::WeightedSum, [0.5, 0.5]));
            cases.push(basket_case(two(volatility, strike, 1.0), BasketType::BestOf, [1.0, 1.0]));
            cases.push(basket_case(two(volatility, strike, 1.0), BasketType::WorstOf, [1.0, 1.0]));
        }
    }
    cases.push(basket_case(two([0.3, 0.2], 60.0, -1.0), BasketType::Geometric, [0.5, 0.5]));
    cases.push(basket_case(two([0.5, 0.2], 60.0, 1.0), BasketType::WeightedSum, [1.0, -1.0]));
    cases
}

/// Seeds whose interval holds the truth, and why the others have none.
fn held(case: &Case, sampling: Sampling, seeds: u64) -> (u64, Vec<String>) {
    let expected = (case.formula)(&case.point);
    let mut wrong = Vec::new();
    // Trades of other ids have other random numbers, as books of other seeds have.
    let mut book = one_trade(case, 1_000, 10_000, sampling, &[]);
    let one = book.trades[0].clone();
    book.trades = (0..seeds).map(|seed| Trade { id: format!("seed {seed}"), ..one.clone() }).collect();
    for estimate in simulate(&book, Share::ALL, 2) {
        let found = estimate.measures[0];
        // What the formula itself is worth: it is an integral, or a difference of large numbers.
        let slack = 1e-9 * (1.0 + expected.abs() + case.point.strike);
        if let Some((_, doubt)) = estimate.doubt {
            wrong.push(doubt.to_owned());
        } else if (found.mean - expected).abs() > 1.96 * found.standard_error() + slack {
            wrong.push(format!("{} is not {expected} within {}", found.mean, found.standard_error()));
        }
    }
    (seeds - wrong.len() as u64, wrong)
}

#[test]
fn intervals_hold_the_truth() {
    let grid = grid();
    assert_eq!(grid.len(), 100);
    let (every, seeds, least) = if is_long() { (1, 400, 356) } else { (9, 60, 51) };
    let mut failed = Vec::new();
    for (number, case) in grid.iter().enumerate().step_by(every) {
        let sampling = [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol][number % 3];
        let (held, wrong) = held(case, sampling, seeds);
        if held < least {
            let point = &case.point;
            failed.push(format!("{number} {:?} {sampling:?} {point:?}: {held}, {:?}", case.payoff, wrong.first()));
        }
    }
    assert!(failed.is_empty(), "{}\n{}", failed.len(), failed.join("\n"));
}

/// Sums with weights of both signs, which pay on both sides, and of negative weights, which always pay but seldom much.
#[test]
fn intervals_of_sums_of_any_sign_hold_the_truth() {
    let two = |volatility, correlation, strike| Point { volatility, correlation, ..at(0.2, strike, 3.0, -1.0) };
    for (point, weights) in
        [(two([0.2, 0.4], 0.9999, 37.0), [0.83, -0.28]), (two([1.0, 1.0], 0.9999, 180.0), [-0.3, -0.8])]
    {
        let case = basket_case(point, BasketType::WeightedSum, weights);
        for sampling in [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol] {
            let (held, wrong) = held(&case, sampling, 60);
            assert!(held >= 51, "{sampling:?} {point:?}: {held}, {:?}", wrong.first());
        }
    }
}
