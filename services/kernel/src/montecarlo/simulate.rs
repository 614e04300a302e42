//! Spreads the blocks of all trades over threads and merges them again in block order.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    draws::{CHOICE, Draws, Points, Source},
    model::Workspace,
    moments::Moments,
    normal::{BLOCK, Lane, Stream, Words, uniforms},
    plan::Plan,
    proposal, sobol,
};
use crate::pricing::book::Book;
use crate::pricing::parameters::Sampling;

/// Blocks that a thread takes at once; they are merged among themselves first, whatever thread took them.
const UNIT_BLOCKS: u64 = 16;
const UNIT_PATHS: u64 = UNIT_BLOCKS * BLOCK as u64;
/// Least number of independent samples whose spread is a standard error.
const SAMPLES_MIN: u64 = 16;
/// Paths on the other side of a jump that a sample need not show.
const PATHS_UNSEEN: f64 = 2.0;
/// Units between two merges; bounds the memory for results that wait to be merged.
const WAVE: usize = 4096;

/// Which trades of a book to price: those whose position is `index`, `index + count`, ...
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Index of this item.
    pub index: u32,
    /// Number of items, at least 1.
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
    /// Number of the first measure whose standard error cannot be trusted, and why.
    pub doubt: Option<(usize, &'static str)>,
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

    /// Paths of a trade.
    fn paths(self) -> u64 {
        u64::from(self.replicates) * self.samples * self.paths_per_sample
    }

    /// Adds to a measure the error that its values need not show: where it is discontinuous, a path more on the other
    /// side changes the mean by what a path is worth, divided by their number.
    fn seen(self, one: Moments, square: f64, is_shown: bool) -> Moments {
        let samples = (u64::from(self.replicates) * self.samples) as f64;
        let unseen = if is_shown { 0.0 } else { PATHS_UNSEEN * square.sqrt() / samples };
        Moments { unseen, ..one }
    }

    /// Mean square of the paths of a measure.
    fn square(self, one: &Moments) -> f64 {
        if self.replicates > 1 { one.square } else { one.mean_square() }
    }

    /// Why the standard error of a measure cannot be trusted, if it cannot.
    fn doubt(self, one: &Moments, is_price: bool) -> Option<&'static str> {
        let count = one.count as f64;
        if one.count < SAMPLES_MIN {
            return Some("it has too few independent paths for a standard error; ask for more paths");
        }
        let (share, most) = if is_price { (0.25, 0.8) } else { (0.3, 0.9) };
        let limit = f64::min(share + 40.0 / count, most);
        let is_decided_by_few = if one.deviations == 0.0 {
            is_price
        } else if self.replicates > 1 {
            // Extremes are those of paths: one of them makes most of the mean.
            is_price && one.high > limit * one.mean.abs() * self.paths() as f64
        } else {
            let largest = f64::max(one.high - one.mean, one.mean - one.low);
            largest * largest > limit * one.deviations
        };
        is_decided_by_few.then_some("too few of its paths decide its standard error; ask for more paths")
    }
}

/// Prices the trades of a share of the book on `threads` threads. The result is the same, to the last bit, for any
/// number of threads and however the book is shared out.
pub fn simulate(book: &Book, share: Share, threads: usize) -> Vec<Estimate> {
    let trades: Vec<usize> =
        (0..book.trades.len()).filter(|&trade| share.contains(book.trades[trade].position)).collect();
    let layout = Layout::new(book);
    let mut plans: Vec<Plan> = trades.iter().map(|&trade| Plan::new(book, &book.trades[trade])).collect();
    // Those that are simulated, with the number of the trade; other approximations come last.
    let others: Vec<(usize, Plan)> =
        plans.iter_mut().enumerate().filter_map(|(number, plan)| Some((number, plan.other()?))).collect();
    let own = plans.iter().enumerate().filter(|(_, plan)| plan.certain.is_none());
    let simulated: Vec<(usize, &Plan)> = own.chain(others.iter().map(|(number, plan)| (*number, plan))).collect();
    let units_per_trade = layout.units * layout.replicates as usize;
    let units = simulated.len() * units_per_trade;
    let unit = |number: usize, space: &mut Space| {
        let (which, unit) = (number / units_per_trade, number % units_per_trade);
        simulate_unit(simulated[which].1, layout, unit, space)
    };
    let mut totals: Vec<Vec<Moments>> =
        simulated.iter().map(|(_, plan)| vec![Moments::default(); plan.wanted.len()]).collect();
    let mut replicate: Vec<Moments> = Vec::new();
    let mut start = 0;
    while start < units {
        let end = units.min(start + WAVE);
        for (number, moments) in wave(start, end, threads, &unit) {
            let total = &mut totals[number / units_per_trade];
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
                let means = replicate.iter().map(|one| Moments {
                    count: 1,
                    deviations: 0.0,
                    square: one.mean_square(),
                    ..*one
                });
                merge(total, &means.collect::<Vec<_>>());
            }
        }
        start = end;
    }
    let certain = |plan: &Plan| -> Vec<Moments> {
        plan.certain.iter().flatten().map(|mean| Moments { mean: *mean, ..Moments::default() }).collect()
    };
    let mut estimates: Vec<Estimate> = (trades.iter().zip(&plans))
        .map(|(&trade, plan)| Estimate { trade, measures: certain(plan), paths: layout.paths(), doubt: None })
        .collect();
    for ((number, plan), total) in simulated.into_iter().zip(totals) {
        let estimate = &mut estimates[number];
        if estimate.measures.is_empty() {
            let is_shown = |measure: usize| measure == 0 && !plan.model.shape.jumps();
            let squares: Vec<f64> = total.iter().map(|one| layout.square(one)).collect();
            let seen = total.into_iter().enumerate().map(|(measure, one)| {
                let own = squares[measure];
                let square = if own == 0.0 { plan.unseen_square(measure, &squares) } else { own };
                layout.seen(one, square, is_shown(measure))
            });
            estimate.measures = seen.collect();
            let doubt = |(measure, one): (usize, &Moments)| Some((measure, layout.doubt(one, measure == 0)?));
            estimate.doubt = estimate.measures.iter().enumerate().find_map(doubt);
        } else {
            for (one, other) in estimate.measures.iter_mut().zip(total) {
                one.unseen = one.unseen.hypot(one.mean - other.mean);
            }
        }
    }
    for (estimate, plan) in estimates.iter_mut().zip(&plans) {
        for (one, &lane) in estimate.measures.iter_mut().zip(&plan.wanted) {
            one.mean = plan.value(lane, one.mean);
        }
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
    tilts: proposal::Space,
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
        let mut space = Space {
            words: Box::new(Words::new()),
            first: Workspace::default(),
            second: Workspace::default(),
            tilts: proposal::Space::default(),
        };
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
    let Space { words, first, second, tilts } = space;
    let replicate = (unit / layout.units) as u32;
    let blocks = layout.samples.div_ceil(BLOCK as u64);
    let start = (unit % layout.units) as u64 * UNIT_BLOCKS;
    let mut points =
        (plan.sampling == Sampling::Sobol).then(|| Points::new(plan.draws, plan.key, plan.trade, replicate));
    let mut total = vec![Moments::default(); plan.wanted.len()];
    let mut choices = [0.0; BLOCK];
    for block in start..(start + UNIT_BLOCKS).min(blocks) {
        let stream = Stream { key: plan.key, trade: plan.trade, block: (u64::from(replicate) * blocks + block) as u32 };
        if plan.model.proposal.is_some() {
            match &points {
                Some(points) => points.choices(block * BLOCK as u64, stream, &mut choices),
                None => uniforms(stream, CHOICE, &mut choices),
            }
        }
        match &mut points {
            Some(points) => {
                let lanes = points.block(block * BLOCK as u64, stream, plan.bridge.as_ref(), words);
                evaluate(plan, Source::Points(lanes), &choices, first, tilts);
            }
            None => evaluate(plan, Source::Stream { stream, mirrored: false, words }, &choices, first, tilts),
        }
        if plan.sampling == Sampling::Antithetic {
            evaluate(plan, Source::Stream { stream, mirrored: true, words }, &choices, second, tilts);
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

/// Fills the lanes of one block, weighed if its draws are shifted.
fn evaluate(plan: &Plan, source: Source<'_>, choices: &Lane, space: &mut Workspace, tilts: &mut proposal::Space) {
    let proposal = plan.model.proposal.as_ref();
    let tilt = proposal.map(|proposal| proposal.start(choices, tilts));
    plan.evaluate(&mut Draws { source, tilt }, space);
    if let Some(proposal) = proposal {
        proposal.weigh(tilts, &plan.wanted, &mut space.lanes);
    }
}
