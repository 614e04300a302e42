//! Prices and Greeks of every kind against closed forms, and the closed forms against published values.

use super::{
    formulas::{self, Formula, Point},
    *,
};
use crate::{
    montecarlo::{correlation::cholesky, plan::columns},
    pricing::parameters::{Measure, Sampling},
};

/// One option whose price is known.
pub(super) struct Case {
    /// What and from where.
    name: &'static str,
    pub(super) point: Point,
    pub(super) payoff: Payoff,
    pub(super) formula: Formula,
    /// The published value, rounded as it is printed.
    published: Option<(f64, f64)>,
}

impl Case {
    fn is_shifted(&self) -> bool {
        matches!(&self.payoff, Payoff::Barrier(Barrier { monitoring: Monitoring::Shifted { .. }, .. }))
    }
}

const BASE: Point = Point {
    spot: [100.0, 95.0],
    volatility: [0.25, 0.35],
    dividend_yield: [0.02, 0.0],
    rate: 0.05,
    correlation: 0.4,
    strike: 98.0,
    maturity: 0.75,
    passed: 0.0,
    sign: 1.0,
};

/// One underlying, without a second.
fn point(spot: f64, strike: f64, maturity: f64, rate: f64, dividend_yield: f64, volatility: f64, sign: f64) -> Point {
    Point {
        spot: [spot; 2],
        strike,
        maturity,
        rate,
        dividend_yield: [dividend_yield; 2],
        volatility: [volatility; 2],
        sign,
        ..BASE
    }
}

fn case(name: &'static str, point: Point, payoff: Payoff, formula: Formula, published: Option<(f64, f64)>) -> Case {
    Case { name, point, payoff, formula, published }
}

fn european(name: &'static str, point: Point, published: f64, digits: i32) -> Case {
    case(
        name,
        point,
        Payoff::European(European),
        Box::new(formulas::european),
        Some((published, 0.51 * 10_f64.powi(-digits))),
    )
}

fn barrier(level: f64, up: bool, knock_in: bool, monitoring: Monitoring) -> Payoff {
    Payoff::Barrier(Barrier { level, barrier_type: BarrierType { up, knock_in }, monitoring })
}

/// A European option.
pub(super) fn european_case(point: Point) -> Case {
    case("european", point, Payoff::European(European), Box::new(formulas::european), None)
}

/// A barrier option.
pub(super) fn barrier_case(point: Point, level: f64, up: bool, knock_in: bool, monitoring: Monitoring) -> Case {
    let formula = move |p: &Point| match monitoring {
        Monitoring::Continuous => formulas::barrier(p, level, up, knock_in),
        Monitoring::Discrete { observations } | Monitoring::Shifted { observations } => {
            formulas::dates_barrier(p, level, up, knock_in, observations)
        }
    };
    case("barrier", point, barrier(level, up, knock_in, monitoring), Box::new(formula), None)
}

/// A basket of two.
pub(super) fn basket_case(point: Point, basket_type: BasketType, weights: [f64; 2]) -> Case {
    basket("basket", point, basket_type, weights)
}

/// An option on an average.
pub(super) fn asian(name: &'static str, point: Point, averaging: Averaging, observations: u32) -> Case {
    case(name, point, Payoff::Asian(Asian { averaging, observations }), formulas::asian(averaging, observations), None)
}

fn continuous(name: &'static str, point: Point, level: f64, up: bool, knock_in: bool) -> Case {
    let kind = barrier(level, up, knock_in, Monitoring::Continuous);
    case(name, point, kind, Box::new(move |p| formulas::barrier(p, level, up, knock_in)), None)
}

fn shifted(name: &'static str, point: Point, level: f64, up: bool, dates: u32) -> Case {
    let monitoring = Monitoring::Shifted { observations: dates };
    let kind = barrier(level, up, false, monitoring);
    let formula = move |p: &Point| formulas::barrier(p, formulas::moved(p, level, up, dates), up, false);
    case(name, point, kind, Box::new(formula), None)
}

fn basket(name: &'static str, point: Point, basket_type: BasketType, weights: [f64; 2]) -> Case {
    let factor = cholesky(&[vec![1.0], vec![point.correlation, 1.0]]).unwrap();
    let kind = Payoff::Basket(Basket { basket_type, weights: weights.to_vec(), factor });
    case(name, point, kind, formulas::basket(basket_type, weights), None)
}

fn published(case: Case, value: f64, digits: i32) -> Case {
    Case { published: Some((value, 0.51 * 10_f64.powi(-digits))), ..case }
}

fn exchange(name: &'static str, second_volatility: f64, correlation: f64, maturity: f64, value: f64) -> Case {
    let point = Point {
        spot: [22.0, 20.0],
        volatility: [0.2, second_volatility],
        dividend_yield: [0.06, 0.04],
        rate: 0.1,
        correlation,
        strike: 0.0,
        maturity,
        ..BASE
    };
    let case = basket(name, point, BasketType::WeightedSum, [1.0, -1.0]);
    published(Case { formula: Box::new(formulas::exchange), ..case }, value, 3)
}

fn stulz(name: &'static str, correlation: f64, basket_type: BasketType, value: f64) -> Case {
    let point = Point { correlation, ..point(100.0, 100.0, 1.0, 0.05, 0.0, 0.3, 1.0) };
    published(basket(name, point, basket_type, [1.0, 1.0]), value, 5)
}

/// Broadie, Glasserman and Kou (1997), table 1: down-and-out call, 50 dates.
fn broadie(level: f64, continuous_price: f64, dates_price: f64) -> [Case; 2] {
    let point = point(100.0, 100.0, 0.2, 0.1, 0.0, 0.3, 1.0);
    [
        published(
            continuous("Broadie, Glasserman and Kou 1997, continuous", point, level, false, false),
            continuous_price,
            3,
        ),
        published(shifted("Broadie, Glasserman and Kou 1997, moved", point, level, false, 50), dates_price, 3),
    ]
}

fn cases() -> Vec<Case> {
    let put = Point { sign: -1.0, ..BASE };
    let mut cases = vec![
        european("Hull, example 15.6, call", point(42.0, 40.0, 0.5, 0.1, 0.0, 0.2, 1.0), 4.76, 2),
        european("Hull, example 15.6, put", point(42.0, 40.0, 0.5, 0.1, 0.0, 0.2, -1.0), 0.81, 2),
        european("Haug, section 1.1.1", point(60.0, 65.0, 0.25, 0.08, 0.0, 0.3, 1.0), 2.1334, 4),
        european("Haug, section 1.1.2, Merton", point(100.0, 95.0, 0.5, 0.1, 0.05, 0.2, -1.0), 2.4648, 4),
        european("Haug, section 1.1.3, Black 76", point(19.0, 19.0, 0.75, 0.1, 0.1, 0.28, 1.0), 1.7011, 4),
        european("Haug, section 1.1.5, Garman and Kohlhagen", point(1.56, 1.6, 0.5, 0.06, 0.08, 0.12, 1.0), 0.0291, 4),
        asian("geometric Asian call", BASE, Averaging::Geometric, 12),
        asian("geometric Asian put", put, Averaging::Geometric, 5),
        asian("arithmetic Asian call of two dates", BASE, Averaging::Arithmetic, 2),
        asian("arithmetic Asian put of two dates", put, Averaging::Arithmetic, 2),
        continuous("Reiner and Rubinstein, up-and-out call", BASE, 130.0, true, false),
        continuous("Reiner and Rubinstein, up-and-in call", BASE, 130.0, true, true),
        continuous("Reiner and Rubinstein, down-and-out call", BASE, 85.0, false, false),
        continuous("Reiner and Rubinstein, down-and-in call", BASE, 85.0, false, true),
        continuous("Reiner and Rubinstein, up-and-out put", put, 110.0, true, false),
        continuous("Reiner and Rubinstein, up-and-in put", put, 110.0, true, true),
        continuous("Reiner and Rubinstein, down-and-out put", put, 75.0, false, false),
        continuous("Reiner and Rubinstein, down-and-in put", put, 75.0, false, true),
        shifted("Broadie, Glasserman and Kou, up-and-out call", BASE, 125.0, true, 12),
        case(
            "up-and-out call of two dates",
            BASE,
            barrier(125.0, true, false, Monitoring::Discrete { observations: 2 }),
            Box::new(|p| formulas::up_and_out_call_of_two(p, 125.0)),
            None,
        ),
        exchange("Margrabe 1978, Haug section 5.3", 0.15, -0.5, 0.1, 2.125),
        exchange("Margrabe 1978, Haug section 5.3", 0.15, 0.5, 0.1, 1.974),
        exchange("Margrabe 1978, Haug section 5.3", 0.20, 0.0, 0.5, 2.650),
        stulz("Stulz 1982 by QuantLib's StulzEngine, worst of two", 0.9, BasketType::WorstOf, 10.897_355),
        stulz("Stulz 1982 by QuantLib's StulzEngine, worst of two", 0.3, BasketType::WorstOf, 5.530_395),
        stulz("Stulz 1982 by QuantLib's StulzEngine, best of two", 0.9, BasketType::BestOf, 17.565_154),
        stulz("Stulz 1982 by QuantLib's StulzEngine, best of two", 0.3, BasketType::BestOf, 22.932_114),
        basket("weighted sum of two", BASE, BasketType::WeightedSum, [0.6, 0.4]),
        basket("weighted sum of two, put", put, BasketType::WeightedSum, [0.5, 0.5]),
        basket("spread of two", Point { strike: 4.0, ..BASE }, BasketType::WeightedSum, [1.0, -1.0]),
        basket("geometric basket of two", BASE, BasketType::Geometric, [0.5, 0.5]),
    ];
    cases.extend(broadie(85.0, 6.308, 6.322));
    cases.extend(broadie(91.0, 5.808, 5.977));
    cases.extend(broadie(95.0, 4.398, 4.907));
    cases
}

pub(super) fn one_trade(case: &Case, seed: u64, paths: u64, sampling: Sampling, measures: &[Measure]) -> Book {
    let Point { spot, volatility, dividend_yield, rate, correlation, strike, maturity, sign, .. } = case.point;
    let two = case.payoff.several();
    let underlying = |i: usize| {
        let underlying =
            Underlying { spot: spot[i], volatility: volatility[i], rate, dividend_yield: dividend_yield[i] };
        (["A", "B"][i].to_owned(), underlying)
    };
    Book {
        seed,
        paths,
        sampling,
        measures: measures.to_vec(),
        on_error: OnError::Fail,
        underlyings: (0..2).map(underlying).collect(),
        correlation: [crate::pricing::parameters::Correlation { between: [0, 1], value: correlation }].into(),
        trades: vec![Trade {
            position: 0,
            id: case.name.to_owned(),
            quantity: 1.0,
            underlyings: if two { vec![0, 1] } else { vec![0] },
            option: if sign > 0.0 { OptionType::Call } else { OptionType::Put },
            strike,
            maturity,
            payoff: case.payoff.clone(),
        }],
        broken: vec![],
    }
}

#[test]
fn the_formulas_give_the_published_values() {
    let cases = cases();
    assert!(cases.len() >= 30);
    for Case { name, point, formula, published, .. } in &cases {
        let Some((value, tolerance)) = published else { continue };
        let found = formula(point);
        assert!((found - value).abs() <= *tolerance, "{name}: {found} is not {value}");
    }
    // Kemna and Vorst's own example has an average without dates; many dates come near (Haug, section 4.20.1).
    let point = point(80.0, 85.0, 0.25, 0.05, -0.03, 0.2, -1.0);
    assert!((formulas::geometric_asian(&point, 100_000) - 4.6922).abs() < 1e-3);
}

#[test]
fn prices_agree_with_the_formulas() {
    for sampling in [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol] {
        let (mut squares, mut count) = (0.0, 0.0);
        for case in cases() {
            let expected = (case.formula)(&case.point);
            let book = one_trade(&case, 20_260_101, 1 << 18, sampling, &[]);
            let found = simulate(&book, Share::ALL, 2)[0].measures[0];
            let distance = (found.mean - expected) / (found.standard_error() + 1e-12);
            // Formulas that are integrals, or round a constant, are right to about this.
            let slack = 1e-5 * (1.0 + expected);
            assert!(
                distance.abs() < 5.0 || (found.mean - expected).abs() < slack,
                "{sampling:?} {}: {} is not {expected}, {distance} errors off",
                case.name,
                found.mean
            );
            // The error of a shifted barrier is that of what it stands for.
            if case.is_shifted() {
                continue;
            }
            assert!(found.standard_error() < 0.03 * expected, "{sampling:?} {}", case.name);
            squares += distance * distance;
            count += 1.0;
        }
        // The errors are as large as they say, neither more nor less.
        let spread: f64 = squares / count;
        assert!((0.4..2.2).contains(&spread), "{sampling:?}: {spread}");
    }
}

/// A derivative of the formula by central differences.
fn derivative(case: &Case, name: &str) -> f64 {
    let (measure, asset) = match name.split_once('[') {
        Some((measure, asset)) => (measure, usize::from(asset == "B]")),
        None => (name, 0),
    };
    let at = |bump: f64| {
        let mut point = case.point;
        match measure {
            "delta" | "gamma" => {
                point.spot[asset] *= 1.0 + bump;
                // A single underlying stands in both places.
                if !case.payoff.several() {
                    point.spot[1] = point.spot[0];
                }
            }
            "vega" => point.volatility[asset] += bump,
            "rho" => point.rate += bump,
            _ => point.passed += bump,
        }
        (case.formula)(&point)
    };
    let spot = case.point.spot[asset];
    match measure {
        "gamma" => (at(1e-3) - 2.0 * at(0.0) + at(-1e-3)) / (1e-3 * spot).powi(2),
        "delta" => (at(1e-4) - at(-1e-4)) / (2e-4 * spot),
        _ => (at(1e-4) - at(-1e-4)) / 2e-4,
    }
}

#[test]
fn greeks_agree_with_differences_of_the_formulas() {
    for (sampling, paths) in [(Sampling::PseudoRandom, 400_000), (Sampling::Sobol, 1 << 18)] {
        let (mut squares, mut count) = (0.0, 0.0);
        for case in cases() {
            let book = one_trade(&case, 7, paths, sampling, &Measure::ALL);
            let names = columns(&book, &book.trades[0]);
            let estimate = &simulate(&book, Share::ALL, 2)[0];
            for ((name, _), found) in names.iter().zip(&estimate.measures).skip(1) {
                let expected = derivative(&case, name);
                let distance = (found.mean - expected) / (found.standard_error() + 1e-12);
                let slack = 2e-4 * (expected.abs() + 0.02);
                assert!(
                    distance.abs() < 5.0 || (found.mean - expected).abs() < slack,
                    "{sampling:?} {} {name}: {} is not {expected}, {distance} errors off",
                    case.name,
                    found.mean
                );
                squares += distance.clamp(-5.0, 5.0).powi(2);
                count += 1.0;
            }
        }
        let spread: f64 = squares / count;
        assert!(count > 150.0 && (0.5..1.8).contains(&spread), "{sampling:?}: {count} {spread}");
    }
}

/// Barriers at many dates have no formula: the table of Broadie, Glasserman and Kou has values to three digits.
#[test]
fn discrete_barriers_agree_with_published_values() {
    for (level, value) in [(85.0, 6.322), (91.0, 5.977), (95.0, 4.907), (99.0, 2.337)] {
        let monitoring = Monitoring::Discrete { observations: 50 };
        let kind = barrier(level, false, false, monitoring);
        let point = point(100.0, 100.0, 0.2, 0.1, 0.0, 0.3, 1.0);
        let case = case("Broadie, Glasserman and Kou 1997, 50 dates", point, kind, Box::new(|_| 0.0), None);
        let found = simulate(&one_trade(&case, 3, 200_000, Sampling::Antithetic, &[]), Share::ALL, 2)[0].measures[0];
        let distance = (found.mean - value) / (found.standard_error() + 0.0005);
        assert!(distance.abs() < 4.0, "{level}: {} is not {value}", found.mean);
    }
}

/// Nor have averages of many prices: Levy (1997, in Clewlow and Strickland's Exotic Options: The State of the Art) has
/// values of a put by simulation, as QuantLib's tests print them, good to about three digits.
#[test]
fn arithmetic_asians_agree_with_published_values() {
    let agrees = |dates: u32, strike: f64, maturity: f64, share: f64, value: f64| {
        let point = point(90.0, strike, maturity, 0.025, 0.06, 0.13, -1.0);
        let kind = arithmetic(dates);
        let case = case("Levy 1997", point, kind, Box::new(|_| 0.0), None);
        let found = simulate(&one_trade(&case, 5, 1 << 17, Sampling::Sobol, &[]), Share::ALL, 2)[0].measures[0];
        let distance = (share * found.mean - value) / (share * found.standard_error() + 0.0005);
        assert!(distance.abs() < 3.0, "{dates} dates: {} is not {value}", share * found.mean);
    };
    for (fixings, value) in
        [(2, 1.394_284), (4, 1.585_244), (8, 1.669_707), (12, 1.698_002), (26, 1.725_507), (52, 1.740_155)]
    {
        // The first fixing is today's price, so it moves the strike of the average of the others.
        let (all, others) = (f64::from(fixings), f64::from(fixings - 1));
        agrees(fixings - 1, (87.0 * all - 90.0) / others, 11.0 / 12.0, others / all, value);
    }
    // Twelve fixings, the first in a month.
    agrees(12, 87.0, 1.0, 1.0, 2.110_509);
}

/// Options that pay only if the barrier was touched and those that pay only if not are together the plain option.
#[test]
fn in_and_out_make_the_plain_option() {
    for monitoring in
        [Monitoring::Continuous, Monitoring::Shifted { observations: 20 }, Monitoring::Discrete { observations: 20 }]
    {
        for (level, up) in [(120.0, true), (85.0, false), (90.0, true), (110.0, false)] {
            let price = |kind: Payoff| {
                let case = case("parity", BASE, kind, Box::new(|_| 0.0), None);
                simulate(&one_trade(&case, 5, 10_000, Sampling::PseudoRandom, &Measure::ALL), Share::ALL, 1)[0]
                    .measures
                    .clone()
            };
            let barrier_of = |knock_in| barrier(level, up, knock_in, monitoring);
            let (inside, outside) = (price(barrier_of(true)), price(barrier_of(false)));
            let steps = match monitoring {
                Monitoring::Discrete { observations } => observations,
                _ => 1,
            };
            // The same draws without the barrier: one so far away that no path comes there.
            let monitoring = match steps {
                1 => Monitoring::Continuous,
                observations => Monitoring::Discrete { observations },
            };
            let plain = price(barrier(1e9, true, false, monitoring));
            for ((one, other), plain) in inside.iter().zip(&outside).zip(&plain) {
                let sum = one.mean + other.mean;
                // Where paths are drawn from another law, they are not the same.
                let error = if (level > SPOT) == up { 0.0 } else { one.standard_error() + other.standard_error() };
                let slack = 1e-9 * (1.0 + plain.mean.abs()) + 4.0 * error;
                assert!((sum - plain.mean).abs() < slack, "{monitoring:?} {level} {up}");
            }
        }
    }
}

/// What is said to be the error of quasi-random points is their error, over many seeds.
#[test]
fn the_errors_of_points_are_honest() {
    for case in cases().into_iter().filter(|case| !case.is_shifted()).step_by(4) {
        let expected = (case.formula)(&case.point);
        let (mut sum, mut squares) = (0.0, 0.0);
        let seeds = 64;
        for seed in 0..seeds {
            let book = one_trade(&case, seed, 1 << 13, Sampling::Sobol, &[]);
            let found = simulate(&book, Share::ALL, 2)[0].measures[0];
            let distance = (found.mean - expected) / found.standard_error();
            sum += distance;
            squares += distance * distance;
        }
        let (mean, spread) = (sum / seeds as f64, squares / seeds as f64);
        assert!(mean.abs() < 0.5 && (0.5..2.0).contains(&spread), "{}: {mean} {spread}", case.name);
    }
}

#[test]
fn the_benchmark_prices_what_it_says() {
    use crate::bench::{Case, estimate};
    let (price, error) = estimate(Case::European, 200_000, 1, 2);
    let expected = formulas::european(&point(100.0, 100.0, 1.0, 0.03, 0.0, 0.2, 1.0));
    assert!((price - expected).abs() < 4.0 * error, "{price} {expected}");
    let (asian, _) = estimate(Case::Asian { observations: 52 }, 20_000, 1, 2);
    assert!((0.5..0.65).contains(&(asian / expected)), "{asian}");
}
