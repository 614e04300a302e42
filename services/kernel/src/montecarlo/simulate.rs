//! Spreads the blocks of all trades over threads and merges them again in block order.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    block::{Plan, Sample, Workspace, sample},
    normal::{BLOCK, Stream},
    philox,
};
use crate::pricing::book::Book;

/// Blocks that a thread takes at once; they are merged among themselves first, whatever thread took them.
const UNIT_BLOCKS: u64 = 16;
const UNIT_PATHS: u64 = UNIT_BLOCKS * BLOCK as u64;
/// Units between two merges; bounds the memory for results that wait to be merged.
const WAVE: usize = 4096;

/// Which trades of a book to price: those whose number is `index`, `index + count`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index of this task.
    pub index: u32,
    /// Number of tasks, at least 1.
    pub count: u32,
}

impl Share {
    /// All trades.
    pub const ALL: Self = Self { index: 0, count: 1 };
}

/// What was found for one trade.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Number of the trade in the book.
    pub trade: usize,
    /// Its measures.
    pub sample: Sample,
}

/// Prices the trades of a share of the book on `threads` threads. The result is the same, to the last bit, for any
/// number of threads and however the book is shared out.
pub fn simulate(book: &Book, share: Share, threads: usize) -> Vec<Estimate> {
    let step = share.count.max(1) as usize;
    let trades: Vec<usize> = (share.index as usize..book.trades.len()).step_by(step).collect();
    let plans: Vec<Plan> = trades
        .iter()
        .map(|&trade| Plan::new(&book.trades[trade], &book.underlyings[book.trades[trade].underlying].1))
        .collect();
    let units_per_trade = book.paths.div_ceil(UNIT_PATHS) as usize;
    let units = trades.len() * units_per_trade;
    let unit = |number: usize, space: &mut Workspace| {
        let (which, unit) = (number / units_per_trade, number % units_per_trade);
        simulate_unit(book, &plans[which], trades[which], unit as u64, space)
    };

    let mut estimates: Vec<Estimate> =
        trades.iter().map(|&trade| Estimate { trade, sample: Sample::default() }).collect();
    let mut start = 0;
    while start < units {
        let end = units.min(start + WAVE);
        for (number, sample) in wave(start, end, threads, &unit) {
            let merged = &mut estimates[number / units_per_trade].sample;
            *merged = merged.merge(sample);
        }
        start = end;
    }
    estimates
}

/// Computes the units from `start` to `end` and returns them in order.
fn wave(
    start: usize,
    end: usize,
    threads: usize,
    unit: &(impl Fn(usize, &mut Workspace) -> Sample + Sync),
) -> Vec<(usize, Sample)> {
    let next = AtomicUsize::new(start);
    let work = || {
        let mut space = Workspace::new();
        let mut done = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= end {
                return done;
            }
            done.push((number, unit(number, &mut space)));
        }
    };
    let threads = threads.clamp(1, end - start);
    let mut done = std::thread::scope(|scope| {
        // A thread that cannot be started only makes it slower: this one computes too.
        let others: Vec<_> =
            (1..threads).map_while(|_| std::thread::Builder::new().spawn_scoped(scope, work).ok()).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(number, _)| *number);
    done
}

fn simulate_unit(book: &Book, plan: &Plan, trade: usize, unit: u64, space: &mut Workspace) -> Sample {
    let first = unit * UNIT_BLOCKS;
    let last = (first + UNIT_BLOCKS).min(book.paths.div_ceil(BLOCK as u64));
    let key = philox::key(book.seed);
    let mut total = Sample::default();
    for block in first..last {
        let paths = (book.paths - block * BLOCK as u64).min(BLOCK as u64) as usize;
        let stream = Stream { key, trade: trade as u32, block: block as u32 };
        total = total.merge(sample(plan, stream, paths, book.measures.delta, space));
    }
    total
}
