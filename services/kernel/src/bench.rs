//! Two fixed tasks whose speed is compared with that of other libraries.

use crate::{
    montecarlo::{Share, simulate},
    payoff::{Asian, Averaging, European, Payoff},
    pricing::{
        book::{Book, OnError, Trade},
        parameters::{OptionType, Sampling, Underlying},
    },
};

/// What to price: an option at the money on an asset at 100, volatility 20 %, rate 3 %, one year.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// A European call: one step for each path.
    European,
    /// An arithmetic Asian call: so many steps for each path.
    Asian {
        /// Observation dates.
        observations: u32,
    },
}

/// Prices a case and returns price and standard error. The caller looks at the clock.
pub fn estimate(case: Case, paths: u64, seed: u64, threads: usize) -> (f64, f64) {
    let payoff = match case {
        Case::European => Payoff::European(European),
        Case::Asian { observations } => Payoff::Asian(Asian { averaging: Averaging::Arithmetic, observations }),
    };
    let book = Book {
        seed,
        paths,
        sampling: Sampling::PseudoRandom,
        measures: Vec::new(),
        on_error: OnError::Fail,
        underlyings: [("A".to_owned(), Underlying { spot: 100.0, volatility: 0.2, rate: 0.03, dividend_yield: 0.0 })]
            .into(),
        correlation: [].into(),
        trades: vec![Trade {
            position: 0,
            id: "bench".to_owned(),
            quantity: 1.0,
            underlyings: vec![0],
            option: OptionType::Call,
            strike: 100.0,
            maturity: 1.0,
            payoff,
        }],
        broken: Vec::new(),
    };
    let price = simulate(&book, Share::ALL, threads)[0].measures[0];
    (price.mean, price.standard_error())
}
