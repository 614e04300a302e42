//! Every kind of payoff. All that is known of one stands in its own file: its name, its fields in JSON and in tables,
//! how they are read and checked, and how its paths are simulated.

use crate::{
    montecarlo::model::{Asset, Model, Terms},
    pricing::{
        market::Market,
        reader::{Field, Fields},
    },
};

mod asian;
mod barrier;
mod basket;
mod european;

pub use asian::{Asian, Averaging};
pub use barrier::{Barrier, BarrierType, Monitoring};
pub use basket::{Basket, BasketType};
pub use european::European;

payoffs! {
    European,
    Asian,
    Barrier,
    Basket,
}

/// What a kind of payoff says of itself.
pub trait Rules: Sized {
    /// The word for it in the field `kind`.
    const NAME: &'static str;
    /// Its own fields, beside those that every trade has.
    const FIELDS: &'static [Field];
    /// Whether it is on several underlyings. Then its Greeks are given for each of them, and its strike may be 0.
    const SEVERAL: bool = false;

    /// Reads the underlyings, as numbers of the market.
    fn underlyings(fields: &mut Fields<'_, '_>, market: &Market<'_>) -> Option<Vec<usize>> {
        market.underlying(fields).map(|number| vec![number])
    }

    /// Reads its own fields.
    fn read(fields: &mut Fields<'_, '_>, common: Common<'_>, market: &mut Market<'_>) -> Option<Self>;

    /// How it is estimated.
    fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model;
}

/// What every trade has, as far as it could be read.
#[derive(Clone, Copy, Debug)]
pub struct Common<'r> {
    /// Numbers of the underlyings.
    pub underlyings: Option<&'r [usize]>,
    /// Years to maturity.
    pub maturity: Option<f64>,
}

/// The rules of a kind in the registry.
#[derive(Clone, Copy)]
pub struct Kind {
    /// See [`Rules::FIELDS`].
    pub fields: &'static [Field],
    /// See [`Rules::SEVERAL`].
    pub several: bool,
    /// See [`Rules::underlyings`].
    pub underlyings: fn(&mut Fields<'_, '_>, &Market<'_>) -> Option<Vec<usize>>,
    /// See [`Rules::read`].
    pub read: fn(&mut Fields<'_, '_>, Common<'_>, &mut Market<'_>) -> Option<Payoff>,
}

/// Makes the enum and the registry from the types that implement [`Rules`].
macro_rules! payoffs {
    ($($name:ident),+ $(,)?) => {
        /// What a trade pays.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Payoff {
            $(#[doc = concat!("See [`", stringify!($name), "`].")] $name($name),)+
        }

        /// Every kind, by name.
        pub const KINDS: &[(&str, Kind)] = &[$(($name::NAME, Kind {
            fields: $name::FIELDS,
            several: $name::SEVERAL,
            underlyings: $name::underlyings,
            read: |fields, common, market| $name::read(fields, common, market).map(Payoff::$name),
        }),)+];

        impl Payoff {
            /// See [`Rules::SEVERAL`].
            pub fn several(&self) -> bool {
                match self { $(Self::$name(_) => $name::SEVERAL,)+ }
            }

            /// See [`Rules::model`].
            pub fn model(&self, terms: Terms, assets: Vec<Asset>) -> Model {
                match self { $(Self::$name(payoff) => payoff.model(terms, assets),)+ }
            }
        }
    };
}
use payoffs;
