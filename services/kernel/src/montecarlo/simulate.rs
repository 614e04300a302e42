//! Spreads the blocks of all trades over threads and merges them again in block order.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    draws::{Draws, Points},
    moments::Moments,
    normal::{BLOCK, Stream, Words},
    plan::{Plan, Workspace},
    sobol,
};
use crate::pricing::book::{Book, Sampling};

/// Blocks that a thread takes at once; they are merged among themselves first, whatever thread took them.
const UNIT_BLOCKS: u64 = 16;
const UNIT_PATHS: u64 = UNIT_BLOCKS * BLOCK as u64;
/// Units between two merges; bounds the memory for results that wait to be merged.
const WAVE: usize = 4096;

/// Which trades of a book to price: those whose position is `index`, `index + count`, ...
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

    /// Whether the trade at a position of the book belongs to it.
    pub fn contains(self, position: usize) -> bool {
        position % self.count.max(1) as usize == self.index as usize
    }
}

/// What was found for one trade.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// Number of the trade in the book.
    pub trade: usize,
    /// Its measures, in the order of [`super::plan::columns`]. What is counted is what is independent: paths, pairs of
    /// mirrored paths, or replicates of quasi-random points.
    pub measures: Vec<Moments>,
    /// Paths that were simulated.
    pub paths: u64,
}

/// How the paths of every trade of a book are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    /// Scrambled copies of the points; 1 where there are none.
    replicates: u32,
    /// Samples of each.
    samples: u64,
    /// Paths of one sample.
    paths_per_sample: u64,
    /// Units of work of each replicate.
    units: usize,
}

impl Layout {
    fn new(book: &Book) -> Self {
        let (replicates, samples, paths_per_sample) = match book.sampling {
            Sampling::PseudoRandom => (1, book.paths, 1),
            Sampling::Antithetic => (1, book.paths.div_ceil(2), 2),
            Sampling::Sobol => {
                let (replicates, points) = sobol::layout(book.paths);
                (replicates, points, 1)
            }
        };
        Self { replicates, samples, paths_per_sample, units: samples.div_ceil(UNIT_PATHS) as usize }
    }
}

/// Prices the trades of a share of the book on `threads` threads. The result is the same, to the last bit, for any
/// number of threads and however the book is shared out.
pub fn simulate(book: &Book, share: Share, threads: usize) -> Vec<Estimate> {
    let trades: Vec<usize> =
        (0..book.trades.len()).filter(|&trade| share.contains(book.trades[trade].position)).collect();
    let layout = Layout::new(book);
    let plans: Vec<Plan> = trades.iter().map(|&trade| Plan::new(book, &book.trades[trade])).collect();
    let units_per_trade = layout.units * layout.replicates as usize;
    let units = trades.len() * units_per_trade;
    let unit = |number: usize, space: &mut Space| {
        let (which, unit) = (number / units_per_trade, number % units_per_trade);
        simulate_unit(&plans[which], layout, unit, space)
    };
    let mut estimates: Vec<Estimate> = trades
        .iter()
        .zip(&plans)
        .map(|(&trade, plan)| Estimate {
            trade,
            measures: vec![Moments::default(); plan.wanted.len()],
            paths: u64::from(layout.replicates) * layout.samples * layout.paths_per_sample,
        })
        .collect();
    let mut replicate: Vec<Moments> = Vec::new();
    let mut start = 0;
    while start < units {
        let end = units.min(start + WAVE);
        for (number, moments) in wave(start, end, threads, &unit) {
            let total = &mut estimates[number / units_per_trade].measures;
            if book.sampling != Sampling::Sobol {
                merge(total, &moments);
                continue;
            }
            // A replicate counts as one: its points depend on each other.
            if number % layout.units == 0 {
                replicate = vec![Moments::default(); moments.len()];
            }
            merge(&mut replicate, &moments);
            if (number + 1) % layout.units == 0 {
                let means = replicate.iter().map(|one| Moments { count: 1, mean: one.mean, deviations: 0.0 });
                merge(total, &means.collect::<Vec<_>>());
            }
        }
        start = end;
    }
    estimates
}

fn merge(total: &mut [Moments], part: &[Moments]) {
    for (total, part) in total.iter_mut().zip(part) {
        *total = total.merge(*part);
    }
}

/// What a thread keeps between units.
struct Space {
    words: Box<Words>,
    first: Workspace,
    second: Workspace,
}

/// Computes the units from `start` to `end` and returns them in order.
fn wave<T: Send>(
    start: usize,
    end: usize,
    threads: usize,
    unit: &(impl Fn(usize, &mut Space) -> T + Sync),
) -> Vec<(usize, T)> {
    let next = AtomicUsize::new(start);
    let work = || {
        let mut space =
            Space { words: Box::new(Words::new()), first: Workspace::default(), second: Workspace::default() };
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

/// The measures of one unit of a trade: some blocks of one replicate.
fn simulate_unit(plan: &Plan, layout: Layout, unit: usize, space: &mut Space) -> Vec<Moments> {
    let Space { words, first, second } = space;
    let replicate = (unit / layout.units) as u32;
    let blocks = layout.samples.div_ceil(BLOCK as u64);
    let start = (unit % layout.units) as u64 * UNIT_BLOCKS;
    let mut points =
        (plan.sampling == Sampling::Sobol).then(|| Points::new(plan.draws, plan.key, plan.trade, replicate));
    let mut total = vec![Moments::default(); plan.wanted.len()];
    for block in start..(start + UNIT_BLOCKS).min(blocks) {
        let stream = Stream { key: plan.key, trade: plan.trade, block: (u64::from(replicate) * blocks + block) as u32 };
        match &mut points {
            Some(points) => {
                let lanes = points.block(block * BLOCK as u64, stream, plan.bridge.as_ref(), words);
                plan.evaluate(&mut Draws::Points(lanes), first);
            }
            None => plan.evaluate(&mut Draws::Stream { stream, mirrored: false, words }, first),
        }
        if plan.sampling == Sampling::Antithetic {
            plan.evaluate(&mut Draws::Stream { stream, mirrored: true, words }, second);
            for &lane in &plan.wanted {
                for (one, other) in first.lanes[lane].iter_mut().zip(&second.lanes[lane]) {
                    *one = 0.5 * (*one + other);
                }
            }
        }
        let samples = (layout.samples - block * BLOCK as u64).min(BLOCK as u64) as usize;
        for (total, &lane) in total.iter_mut().zip(&plan.wanted) {
            *total = total.merge(Moments::of(&first.lanes[lane][..samples]));
        }
    }
    total
}
