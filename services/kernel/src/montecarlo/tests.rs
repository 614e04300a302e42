//! The kernel against known answers, closed forms, and itself on other numbers of threads and items.

use super::{
    Estimate, Share,
    elementary::{exp, ln, sin_cos, sin_cos_small},
    moments::Moments,
    normal::{BLOCK, Stream, Words, fill, uniform},
    philox::{key, philox},
    simulate,
};
use crate::{
    payoff::{Asian, Averaging, Barrier, BarrierType, Basket, BasketType, European, Monitoring, Payoff},
    pricing::{
        book::{Book, OnError, Trade},
        parameters::{Measure, OptionType, Sampling, Underlying},
    },
};

mod closed;
mod coverage;
mod edges;
mod formulas;
mod points;

const SPOT: f64 = 100.0;

/// Whether exhaustive tests run in full.
fn is_long() -> bool {
    std::env::var_os("DESKGRID_TEST_LONG").is_some()
}

fn market(volatility: f64) -> Underlying {
    Underlying { spot: SPOT, volatility, rate: 0.03, dividend_yield: 0.01 }
}

fn book(seed: u64, paths: u64, volatility: f64, trades: Vec<Trade>) -> Book {
    let underlyings = vec![("ACME".to_owned(), market(volatility))];
    Book {
        seed,
        paths,
        sampling: Sampling::PseudoRandom,
        measures: vec![Measure::Delta],
        on_error: OnError::Fail,
        underlyings: underlyings.into(),
        correlation: [].into(),
        trades: trades
            .into_iter()
            .enumerate()
            .map(|(position, trade)| Trade { position, id: format!("t{position}"), ..trade })
            .collect(),
        broken: vec![],
    }
}

fn trade(payoff: Payoff, option: OptionType, strike: f64, maturity: f64) -> Trade {
    Trade { position: 0, id: String::new(), quantity: 1.0, underlyings: vec![0], option, strike, maturity, payoff }
}

fn geometric(observations: u32) -> Payoff {
    Payoff::Asian(Asian { averaging: Averaging::Geometric, observations })
}

fn arithmetic(observations: u32) -> Payoff {
    Payoff::Asian(Asian { averaging: Averaging::Arithmetic, observations })
}

/// The normal distribution function, by Marsaglia's series.
fn normal_distribution(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 1.0);
    while term.abs() > 1e-18 * sum.abs() {
        n += 2.0;
        term *= x * x / n;
        sum += term;
    }
    0.5 + sum * (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt()
}

/// Price and delta of an option on a level whose logarithm at maturity is normal; for the European case this is
/// Black and Scholes's formula, for the geometric average that of Kemna and Vorst with discrete observations.
fn closed_form(trade: &Trade, market: &Underlying) -> (f64, f64) {
    let steps = match trade.payoff {
        Payoff::Asian(Asian { observations, .. }) => f64::from(observations),
        _ => 1.0,
    };
    let (t, sigma) = (trade.maturity, market.volatility);
    let drift = market.rate - market.dividend_yield - 0.5 * sigma * sigma;
    let mean = market.spot.ln() + drift * t * (steps + 1.0) / (2.0 * steps);
    let variance = sigma * sigma * t * (steps + 1.0) * (2.0 * steps + 1.0) / (6.0 * steps * steps);
    let d2 = (mean - trade.strike.ln()) / variance.sqrt();
    let d1 = d2 + variance.sqrt();
    let discount = (-market.rate * t).exp();
    let level = (mean + 0.5 * variance).exp();
    let sign = if trade.option == OptionType::Call { 1.0 } else { -1.0 };
    let (n1, n2) = (normal_distribution(sign * d1), normal_distribution(sign * d2));
    (discount * sign * (level * n1 - trade.strike * n2), discount * sign * level / market.spot * n1)
}

/// Checks prices and deltas against the closed form: each within four standard errors, and all together spread as
/// such errors are, so that the fixed seed hides nothing.
fn check_against_closed_form(kind: Payoff, paths: u64) {
    let (mut squares, mut count) = (0.0, 0.0);
    for (number, volatility) in [0.05, 0.2, 0.6].into_iter().enumerate() {
        let mut trades = Vec::new();
        for option in [OptionType::Call, OptionType::Put] {
            for strike in [80.0, 100.0, 120.0] {
                for maturity in [0.1, 1.0, 5.0] {
                    trades.push(trade(kind.clone(), option, strike, maturity));
                }
            }
        }
        let book = book(7 + number as u64, paths, volatility, trades);
        for Estimate { trade, measures, .. } in simulate(&book, Share::ALL, 2) {
            let (price, delta) = closed_form(&book.trades[trade], &market(volatility));
            for (expected, found) in [(price, measures[0]), (delta, measures[1])] {
                // Where hardly a path pays, the standard error is none.
                if expected.abs() < 1e-3 {
                    assert!((found.mean - expected).abs() < 1e-3);
                    continue;
                }
                // A deep option always pays, so its delta has nearly no error: rounding counts.
                let distance = (found.mean - expected) / (found.standard_error() + 1e-12);
                assert!(distance.abs() < 4.0, "{kind:?} {volatility} {:?}: {distance}", book.trades[trade]);
                squares += distance * distance;
                count += 1.0;
            }
        }
    }
    assert!((0.5..1.5).contains(&(squares / count)), "{}", squares / count);
}

#[test]
fn europeans_agree_with_black_scholes() {
    check_against_closed_form(Payoff::European(European), 200_000);
}

#[test]
fn geometric_asians_agree_with_their_closed_form() {
    check_against_closed_form(geometric(12), 40_000);
}

#[test]
fn an_average_of_one_observation_is_european() {
    let trades = |kind| vec![trade(kind, OptionType::Call, 100.0, 1.0)];
    let price = |kind| simulate(&book(3, 5_000, 0.3, trades(kind)), Share::ALL, 1)[0].measures[0].mean;
    let european = price(Payoff::European(European));
    assert!((price(arithmetic(1)) / european - 1.0).abs() < 1e-12);
    assert!((price(geometric(1)) / european - 1.0).abs() < 1e-12);
}

#[test]
fn arithmetic_asians_lie_between_the_geometric_ones_and_the_mean() {
    // On the same paths the arithmetic mean is never below the geometric one.
    let price = |kind, option| {
        simulate(&book(5, 100_000, 0.3, vec![trade(kind, option, 100.0, 1.0)]), Share::ALL, 2)[0].measures[0]
    };
    let call = price(arithmetic(52), OptionType::Call);
    let put = price(arithmetic(52), OptionType::Put);
    assert!(call.mean > price(geometric(52), OptionType::Call).mean);
    // Put-call parity has a closed form: the expected average is a sum of forwards.
    let forwards: f64 = (1..=52).map(|i| SPOT * (0.02 * f64::from(i) / 52.0).exp()).sum::<f64>() / 52.0;
    let expected = (-0.03_f64).exp() * (forwards - 100.0);
    assert!((call.mean - put.mean - expected).abs() < 3.0 * (call.standard_error() + put.standard_error()));
}

#[test]
fn the_standard_error_falls_with_the_root_of_the_paths() {
    let error = |paths| {
        let trades = vec![trade(arithmetic(12), OptionType::Call, 100.0, 1.0)];
        simulate(&book(11, paths, 0.2, trades), Share::ALL, 2)[0].measures[0].standard_error()
    };
    for (few, many) in [(4_000, 64_000), (10_000, 160_000)] {
        let ratio = error(few) / error(many);
        assert!((3.7..4.3).contains(&ratio), "{ratio}");
    }
}

/// A book of every kind, the last one on two underlyings.
fn mixed(sampling: Sampling, paths: u64) -> Book {
    let barrier_type = BarrierType { up: false, knock_in: false };
    let barrier = |monitoring| Payoff::Barrier(Barrier { level: 80.0, barrier_type, monitoring });
    let factor = super::correlation::cholesky(&[vec![1.0], vec![0.5, 1.0]]).unwrap();
    let kinds = [
        Payoff::European(European),
        arithmetic(5),
        geometric(3),
        barrier(Monitoring::Continuous),
        barrier(Monitoring::Discrete { observations: 4 }),
        barrier(Monitoring::Shifted { observations: 4 }),
        Payoff::Basket(Basket { basket_type: BasketType::BestOf, weights: vec![1.0, 0.9], factor }),
    ];
    let trades = kinds.into_iter().map(|kind| trade(kind, OptionType::Call, 95.0, 0.5)).collect();
    let mut book = book(u64::MAX - 1, paths, 0.2, trades);
    book.underlyings = [&book.underlyings[..], &[("OTHER".to_owned(), market(0.3))]].concat().into();
    book.trades[6].underlyings = vec![0, 1];
    book.measures = Measure::ALL.to_vec();
    book.sampling = sampling;
    book
}

#[test]
fn threads_and_items_change_no_bit() {
    for sampling in [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol] {
        // Not a multiple of a block, nor of a unit of work; and points of more than one unit.
        for paths in [50_003, 600_000] {
            let book = mixed(sampling, if sampling == Sampling::Sobol { paths } else { paths / 6 });
            let one = simulate(&book, Share::ALL, 1);
            assert_eq!(one, simulate(&book, Share::ALL, 8));
            assert_eq!(one, simulate(&book, Share::ALL, 3));
            for count in [2, 3, 9] {
                let mut parts: Vec<Estimate> =
                    (0..count).flat_map(|index| simulate(&book, Share { index, count }, 2)).collect();
                parts.sort_by_key(|estimate| estimate.trade);
                assert_eq!(one, parts);
            }
        }
    }
}

/// A trade's numbers follow from its id: a book that is cut into others, or put in another order, prices the same.
#[test]
fn the_rest_of_the_book_changes_no_bit() {
    let book = mixed(Sampling::Sobol, 5_000);
    let whole = simulate(&book, Share::ALL, 1);
    for (number, trade) in book.trades.iter().enumerate() {
        let alone = Book { trades: vec![Trade { position: 0, ..trade.clone() }], ..book.clone() };
        assert_eq!(simulate(&alone, Share::ALL, 1)[0].measures, whole[number].measures);
    }
}

/// The value itself, so that a change of compiler or processor that changes a bit is noticed.
#[test]
fn results_are_pinned() {
    let trades = vec![
        trade(Payoff::European(European), OptionType::Call, 105.0, 1.0),
        trade(arithmetic(12), OptionType::Put, 95.0, 0.5),
    ];
    let found: Vec<u64> = simulate(&book(20_260_101, 10_000, 0.2, trades), Share::ALL, 2)
        .iter()
        .map(|estimate| estimate.measures[0].mean.to_bits())
        .collect();
    assert_eq!(found, PINNED);
}

const PINNED: [u64; 2] = [4_619_204_543_410_494_442, 4_608_658_726_678_018_343];

#[test]
fn extreme_parameters_give_finite_prices() {
    for (volatility, maturity) in [(0.0, 1.0), (10.0, 200.0), (1e-300, 1e-300)] {
        let trades = vec![
            trade(Payoff::European(European), OptionType::Call, 100.0, maturity),
            trade(arithmetic(3), OptionType::Put, 1e-10, maturity),
        ];
        for estimate in simulate(&book(1, 3_000, volatility, trades), Share::ALL, 1) {
            assert!(estimate.measures[0].mean.is_finite() && estimate.measures[0].standard_error().is_finite());
        }
    }
    // Without volatility there is no error, and the price is the discounted forward's.
    let trades = vec![trade(Payoff::European(European), OptionType::Call, 90.0, 2.0)];
    let estimate = simulate(&book(1, 1_000, 0.0, trades), Share::ALL, 1)[0].measures[0];
    let expected = SPOT * (-0.02_f64).exp() - 90.0 * (-0.06_f64).exp();
    assert!((estimate.mean - expected).abs() < 1e-12 && estimate.standard_error() < 1e-12);
}

/// The vectors that Random123 publishes for philox4x32 with 10 rounds: counter, key, words.
#[test]
fn philox_gives_the_published_words() {
    let vectors = [
        ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
        ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
        (
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ),
    ];
    for (counter, key, words) in vectors {
        assert_eq!(philox(counter, key), words);
    }
}

#[test]
fn elementary_functions_are_accurate() {
    let mut worst = [0.0_f64; 4];
    for i in 0..200_000_u32 {
        let word = i.wrapping_mul(2_654_435_761);
        let x = f64::from(word) / f64::from(u32::MAX) * 1400.0 - 700.0;
        worst[0] = worst[0].max((exp(x) / x.exp() - 1.0).abs());
        let small = x / 1000.0;
        worst[0] = worst[0].max((exp(small) / small.exp() - 1.0).abs());
        for positive in [uniform(word), uniform(word) * 1e-5, f64::from(word) + 1.0, 1.0 - uniform(word) * 1e-9] {
            if positive != 1.0 {
                worst[1] = worst[1].max((ln(positive) / positive.ln() - 1.0).abs());
            }
        }
        let angle = (uniform(word) - 0.5) * std::f64::consts::FRAC_PI_2;
        let (sin, cos) = sin_cos_small(angle);
        worst[2] = worst[2].max((sin - angle.sin()).abs()).max((cos - angle.cos()).abs());
        let (sin, cos) = sin_cos(word);
        worst[3] = worst[3].max((sin * sin + cos * cos - 1.0).abs());
    }
    assert!(worst[0] < 5e-16 && worst[1] < 3e-16 && worst[2] < 2e-16 && worst[3] < 5e-16, "{worst:?}");
    assert_eq!(exp(0.0), 1.0);
    assert!(exp(-1e300) > 0.0 && exp(1e300).is_finite());
    assert_eq!(ln(1.0), 0.0);
}

#[test]
fn the_quadrants_of_the_angle_are_covered_evenly() {
    let mut quadrants = [0; 4];
    for i in 0..1024_u32 {
        let (sin, cos) = sin_cos(i << 22);
        quadrants[usize::from(sin > 0.0) * 2 + usize::from(cos > 0.0)] += 1;
    }
    assert_eq!(quadrants, [256; 4]);
}

#[test]
fn draws_are_standard_normal_and_independent() {
    let (mut words, mut normals, mut last) = (Words::new(), [0.0; BLOCK], [0.0; BLOCK]);
    let mut powers = [0.0; 4];
    let mut product = 0.0;
    let mut tail = 0;
    let blocks = 500;
    for block in 0..blocks {
        fill(Stream { key: key(42), trade: [0; 2], block }, 0, &mut words, &mut normals);
        for (z, previous) in normals.iter().zip(&last) {
            let mut power = *z;
            for sum in &mut powers {
                *sum += power;
                power *= z;
            }
            product += z * previous;
            tail += u32::from(z.abs() > 3.0);
        }
        last = normals;
    }
    let n = f64::from(blocks) * BLOCK as f64;
    // Four standard deviations of each moment's mean: variances 1, 2, 15, 96.
    for (power, (sum, (expected, variance))) in
        powers.iter().zip([(0.0, 1.0), (1.0, 2.0), (0.0, 15.0), (3.0, 96.0)]).enumerate()
    {
        let distance = (sum / n - expected) / (f64::sqrt(variance) / n.sqrt());
        assert!(distance.abs() < 4.0, "moment {}: {distance}", power + 1);
    }
    assert!((product / n.sqrt()).abs() < 4.0);
    let expected_tail = 2.0 * normal_distribution(-3.0) * n;
    assert!((f64::from(tail) - expected_tail).abs() < 4.0 * expected_tail.sqrt());
}

#[test]
fn streams_of_trades_blocks_draws_and_seeds_differ() {
    let draw = |seed, trade, block, draw| {
        let (mut words, mut normals) = (Words::new(), [0.0; BLOCK]);
        fill(Stream { key: key(seed), trade: [trade, 0], block }, draw, &mut words, &mut normals);
        normals
    };
    let base = draw(1, 0, 0, 0);
    assert_eq!(base, draw(1, 0, 0, 0));
    for other in [draw(2, 0, 0, 0), draw(1 << 32, 0, 0, 0), draw(1, 1, 0, 0), draw(1, 0, 1, 0), draw(1, 0, 0, 1)] {
        assert!(base.iter().zip(&other).all(|(a, b)| a != b));
    }
}

#[test]
fn moments_merge_to_those_of_all_values() {
    let values: Vec<f64> = (0..1000).map(|i| 1e6 + f64::from(i * i % 37)).collect();
    let whole = Moments::of(&values);
    let merged = values.chunks(77).map(Moments::of).fold(Moments::default(), Moments::merge);
    assert_eq!(whole.count, merged.count);
    assert!((whole.mean - merged.mean).abs() < 1e-9 && (whole.deviations / merged.deviations - 1.0).abs() < 1e-9);
    assert_eq!(Moments::of(&[]).standard_error(), 0.0);
    assert_eq!(Moments::of(&[5.0]).standard_error(), 0.0);
}
