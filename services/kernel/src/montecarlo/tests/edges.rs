//! Where a sample says little or nothing: certain prices, samples that are too small, and approximations.

use super::{
    closed::{barrier_case, european_case, one_trade},
    formulas::{self, Point},
    *,
};

fn at(volatility: f64, strike: f64, maturity: f64, sign: f64) -> Point {
    Point {
        spot: [SPOT; 2],
        volatility: [volatility; 2],
        dividend_yield: [0.0; 2],
        rate: 0.0,
        correlation: 0.5,
        strike,
        maturity,
        passed: 0.0,
        sign,
    }
}

fn first(book: &Book) -> Estimate {
    simulate(book, Share::ALL, 2).swap_remove(0)
}

#[test]
fn much_volatility_is_priced() {
    for (volatility, price) in [(5.0, 98.758), (10.0, 99.999_94)] {
        let case = european_case(at(volatility, 100.0, 1.0, 1.0));
        let found = first(&one_trade(&case, 1, 200_000, Sampling::PseudoRandom, &[])).measures[0];
        assert!((found.mean - price).abs() < 5e-4 + 4.0 * found.standard_error(), "{volatility}: {}", found.mean);
        assert!(found.standard_error() < 0.05 * (1.0 + 1e-9 - found.mean / SPOT) * SPOT, "{}", found.standard_error());
    }
}

#[test]
fn few_points_far_from_the_money_are_honest() {
    let case = european_case(at(0.2, 200.0, 1.0, 1.0));
    let expected = (case.formula)(&case.point);
    for seed in 0..20 {
        let found = first(&one_trade(&case, seed, 2_000, Sampling::Sobol, &[])).measures[0];
        assert!(
            (found.mean - expected).abs() < 5.0 * found.standard_error() && found.standard_error() < 0.1 * expected
        );
    }
    // Rho is discontinuous: all replicates may have the same number of points on one side.
    let case = european_case(Point { rate: 0.03, ..at(1.5, 100.0, 1.0, 1.0) });
    let at_rate = |rate: f64| formulas::european(&Point { rate, ..case.point });
    let expected = (at_rate(0.03 + 1e-4) - at_rate(0.03 - 1e-4)) / 2e-4;
    let held = (0..200).filter(|seed| {
        let found = first(&one_trade(&case, *seed, 4_000, Sampling::Sobol, &[Measure::Rho])).measures[1];
        let distance = (found.mean - expected).abs() / found.standard_error();
        assert!(distance < 6.0, "{seed}: {} is not {expected}, {distance} errors off", found.mean);
        distance < 1.96
    });
    assert!(held.count() >= 178);
}

#[test]
fn too_few_paths_have_no_standard_error() {
    let case = european_case(at(0.2, 100.0, 1.0, 1.0));
    let doubt = |paths, sampling| first(&one_trade(&case, 1, paths, sampling, &[])).doubt.is_some();
    assert!(doubt(1, Sampling::PseudoRandom) && doubt(2, Sampling::Antithetic) && doubt(1, Sampling::Sobol));
    assert!(doubt(15, Sampling::PseudoRandom) && doubt(30, Sampling::Antithetic));
    assert!(!doubt(400, Sampling::PseudoRandom) && !doubt(400, Sampling::Antithetic) && !doubt(400, Sampling::Sobol));
}

/// A barrier that must be touched far above, for a put that pays far below.
#[test]
fn a_sample_that_says_nothing_is_no_price() {
    let dates = Monitoring::Discrete { observations: 40 };
    let case = barrier_case(at(0.14, 60.0, 1.0, -1.0), 140.0, true, true, dates);
    assert!(first(&one_trade(&case, 1, 1_000, Sampling::PseudoRandom, &[])).doubt.is_some());
}

/// Options that expire soon, so far from the money or from their barrier that no path comes there: worth nothing, which
/// more paths would not show.
#[test]
fn what_is_out_of_reach_is_worth_nothing() {
    let dates = |observations| Monitoring::Discrete { observations };
    let barrier = |level: f64, up, knock_in, monitoring| {
        Payoff::Barrier(Barrier { level, barrier_type: BarrierType { up, knock_in }, monitoring })
    };
    let basket = |basket_type, weights: [f64; 2], correlation| {
        let factor = super::super::correlation::cholesky(&[vec![1.0], vec![correlation, 1.0]]).unwrap();
        Payoff::Basket(Basket { basket_type, weights: weights.to_vec(), factor })
    };
    let (call, put) = (OptionType::Call, OptionType::Put);
    let mut payoffs = vec![
        (arithmetic(12), call, 150.0),
        (arithmetic(3), put, 60.0),
        (barrier(60.0, true, false, dates(4)), call, 50.0),
        (barrier(150.0, false, false, dates(100)), call, 90.0),
        (basket(BasketType::Geometric, [1.5, -0.5], 0.5), call, 150.0),
        (basket(BasketType::Geometric, [1.5, -0.5], 0.5), put, 60.0),
        // One of both is above its strike when they move against each other.
        (basket(BasketType::BestOf, [1.0, 0.99], -1.0), put, 98.0),
        (basket(BasketType::WorstOf, [1.0, 1.01], -1.0), call, 102.0),
    ];
    for monitoring in [Monitoring::Continuous, Monitoring::Shifted { observations: 12 }, dates(12)] {
        payoffs.extend([
            (barrier(80.0, false, false, monitoring), call, 150.0),
            (barrier(120.0, true, false, monitoring), put, 60.0),
            (barrier(150.0, true, true, monitoring), call, 100.0),
            (barrier(60.0, false, true, monitoring), put, 100.0),
            // To the barrier and back again.
            (barrier(125.0, true, true, monitoring), put, 99.0),
        ]);
    }
    for (payoff, option, strike) in payoffs {
        for sampling in [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol] {
            let mut book = book(1, 1_000, 0.15, vec![trade(payoff.clone(), option, strike, 1.0 / 365.0)]);
            book.underlyings = [&book.underlyings[..], &[("OTHER".to_owned(), market(0.15))]].concat().into();
            book.sampling = sampling;
            if payoff.several() {
                book.trades[0].underlyings = vec![0, 1];
            }
            let found = first(&book);
            let price = found.measures[0];
            assert_eq!((found.doubt, price.mean, price.standard_error()), (None, 0.0, 0.0), "{payoff:?} {option:?}");
        }
    }
}

/// An underlying that is never the best may still become it: its Greeks are 0, but not for certain.
#[test]
fn greeks_that_no_path_shows_have_an_error() {
    let factor = super::super::correlation::cholesky(&[vec![1.0], vec![0.5, 1.0]]).unwrap();
    let payoff = Payoff::Basket(Basket { basket_type: BasketType::BestOf, weights: vec![1.0, 0.45], factor });
    for sampling in [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol] {
        let mut book = book(1, 1_000, 0.2, vec![trade(payoff.clone(), OptionType::Call, 100.0, 1.0)]);
        let other = ("OTHER".to_owned(), Underlying { spot: 0.5 * SPOT, ..market(0.2) });
        book.underlyings = [&book.underlyings[..], &[other]].concat().into();
        book.trades[0].underlyings = vec![0, 1];
        book.sampling = sampling;
        book.measures = vec![Measure::Delta, Measure::Gamma, Measure::Vega];
        let found = first(&book);
        assert_eq!(found.doubt, None);
        let [_, delta, never, _, gamma, _, vega] = found.measures[..] else { panic!("{found:?}") };
        assert_eq!([never.mean, gamma.mean, vega.mean], [0.0; 3]);
        // As much as the first one has in two paths of a thousand, for a price half as high.
        let error = never.standard_error();
        assert!(error > delta.mean * 2e-3 && error < delta.mean * 2e-2, "{error} {}", delta.mean);
        assert!(gamma.standard_error() > 0.0 && vega.standard_error() > 0.0);
    }
}

/// Every payoff without volatility or without time: one path, whose price and Greeks have no error.
#[test]
fn prices_that_are_certain_have_no_error() {
    let barrier = |monitoring, up, knock_in| {
        let level = if up { 120.0 } else { 70.0 };
        Payoff::Barrier(Barrier { level, barrier_type: BarrierType { up, knock_in }, monitoring })
    };
    let factor = super::super::correlation::cholesky(&[vec![1.0], vec![0.5, 1.0]]).unwrap();
    let basket = |basket_type| Payoff::Basket(Basket { basket_type, weights: vec![0.5, 0.5], factor: factor.clone() });
    // What is paid on, as a share of the spot price after so many years; nothing where the barrier says so.
    let grown = |years: f64| (0.02 * years).exp();
    type Level = Box<dyn Fn(f64) -> Option<f64>>;
    let last: fn() -> Level = || Box::new(move |years| Some((0.02 * years).exp()));
    let cases: Vec<(Payoff, Level)> = vec![
        (Payoff::European(European), last()),
        (arithmetic(2), Box::new(move |years| Some(0.5 * (grown(years / 2.0) + grown(years))))),
        (geometric(2), Box::new(move |years| Some(grown(0.75 * years)))),
        (
            barrier(Monitoring::Continuous, true, false),
            Box::new(move |years| (grown(years) < 1.2).then(|| grown(years))),
        ),
        (
            barrier(Monitoring::Discrete { observations: 3 }, true, true),
            Box::new(move |years| (grown(years) >= 1.2).then(|| grown(years))),
        ),
        (barrier(Monitoring::Shifted { observations: 10 }, false, false), last()),
        (basket(BasketType::WeightedSum), last()),
        (basket(BasketType::Geometric), last()),
        (basket(BasketType::BestOf), Box::new(move |years| Some(0.5 * grown(years)))),
        (basket(BasketType::WorstOf), Box::new(move |years| Some(0.5 * grown(years)))),
    ];
    for (payoff, level) in cases {
        for (volatility, maturity) in [(0.0, 0.0), (0.2, 0.0), (0.0, 5.0), (0.0, 12.0)] {
            for (option, strike) in [(OptionType::Call, 40.0), (OptionType::Put, 130.0)] {
                let mut book = book(1, 1, volatility, vec![trade(payoff.clone(), option, strike, maturity)]);
                book.underlyings = [&book.underlyings[..], &[("OTHER".to_owned(), market(volatility))]].concat().into();
                book.measures = Measure::ALL.to_vec();
                if payoff.several() {
                    book.trades[0].underlyings = vec![0, 1];
                }
                let sign = if option == OptionType::Call { 1.0 } else { -1.0 };
                let gain = level(maturity).map_or(0.0, |level| (sign * (SPOT * level - strike)).max(0.0));
                let found = first(&book);
                assert_eq!(found.doubt, None);
                let price = found.measures[0].mean;
                let expected = (-0.03 * maturity).exp() * gain;
                assert!((price - expected).abs() < 1e-11, "{payoff:?} {volatility} {maturity}: {price}, {expected}");
                assert!(found.measures.iter().all(|one| one.standard_error() == 0.0 && one.mean.is_finite()));
            }
        }
    }
}

/// The Greeks of a certain price are the derivatives of the discounted payoff.
#[test]
fn greeks_that_are_certain_are_derivatives() {
    let mut book = book(1, 1, 0.0, vec![trade(Payoff::European(European), OptionType::Call, 90.0, 2.0)]);
    book.measures = Measure::ALL.to_vec();
    let found: Vec<f64> = first(&book).measures.iter().map(|one| one.mean).collect();
    let (asset, cash) = ((-0.01_f64 * 2.0).exp(), (-0.03_f64 * 2.0).exp());
    let expected =
        [SPOT * asset - 90.0 * cash, asset, 0.0, 0.0, 2.0 * 90.0 * cash, 0.01 * SPOT * asset - 0.03 * 90.0 * cash];
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }
}

/// The moved barrier stands for dates; by how much it errs belongs to its error.
#[test]
fn shifted_barriers_are_as_far_from_dates_as_they_say() {
    let mut points = Vec::new();
    for dates in [12, 52, 120] {
        for steps in [2.1, 3.0, 6.0] {
            for (volatility, strike) in [(0.2, 80.0), (0.2, 100.0), (0.2, 115.0), (0.6, 100.0)] {
                for (up, knock_in, sign) in [
                    (true, false, 1.0),
                    (true, false, -1.0),
                    (true, true, 1.0),
                    (false, false, 1.0),
                    (false, false, -1.0),
                    (false, true, -1.0),
                ] {
                    points.push((
                        dates,
                        steps,
                        up,
                        knock_in,
                        Point { rate: 0.03, ..at(volatility, strike, 0.5, sign) },
                    ));
                }
            }
        }
    }
    for (dates, steps, up, knock_in, point) in points.into_iter().step_by(if is_long() { 1 } else { 11 }) {
        let far = steps * point.volatility[0] * (0.5 / f64::from(dates)).sqrt();
        let level = SPOT * (if up { far } else { -far }).exp();
        let case = barrier_case(point, level, up, knock_in, Monitoring::Shifted { observations: dates });
        let expected = (case.formula)(&point);
        let found = first(&one_trade(&case, 1, 1 << 14, Sampling::Sobol, &[])).measures[0];
        let distance = (found.mean - expected).abs() / (found.standard_error() + 1e-6);
        let what = format!("{dates} {steps} {up} {knock_in} {point:?}: {} is not {expected}", found.mean);
        assert!(distance < 2.5, "{what}, {distance} errors off");
    }
}
