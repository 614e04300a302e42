//! Where a block of paths takes its normals from: a stream, its mirror image, quasi-random points, or a line.

use super::{
    bridge::Bridge,
    normal::{BLOCK, Lane, Stream, Words, fill, quantile, uniform, uniforms},
    proposal::Tilt,
    sobol::{DIMENSIONS, Scrambled, directions},
};

/// The normals of one block.
pub struct Draws<'d> {
    /// Where they come from.
    pub source: Source<'d>,
    /// Where they are moved to.
    pub tilt: Option<Tilt<'d>>,
}

/// Where the normals of one block come from.
pub enum Source<'d> {
    /// Pseudo-random.
    Stream {
        /// Which.
        stream: Stream,
        /// Whether each is taken with its sign changed.
        mirrored: bool,
        /// Room for the generator's words.
        words: &'d mut Words,
    },
    /// Quasi-random, worked out already.
    Points(&'d [Lane]),
    /// Along a straight line, one place for each path.
    Ray {
        /// Its direction.
        direction: &'d [f64],
        /// The places.
        places: &'d Lane,
    },
}

impl Draws<'_> {
    /// Draw number `draw`: a time step, or an underlying. Each is taken once.
    pub fn take(&mut self, draw: u32, normals: &mut Lane) {
        match &mut self.source {
            Source::Stream { stream, mirrored, words } => {
                fill(*stream, draw, words, normals);
                if *mirrored {
                    normals.iter_mut().for_each(|normal| *normal = -*normal);
                }
            }
            Source::Points(points) => *normals = points[draw as usize],
            Source::Ray { direction, places } => {
                for (normal, place) in normals.iter_mut().zip(places.iter()) {
                    *normal = direction[draw as usize] * place;
                }
            }
        }
        if let Some(tilt) = &mut self.tilt {
            tilt.shift(draw as usize, normals);
        }
    }
}

/// Number of the draw that chooses among laws of a path; no path has so many draws.
pub const CHOICE: u32 = 0x4000_0000;

/// One replicate of a trade's quasi-random points.
pub struct Points {
    dimensions: Vec<Scrambled>,
    /// Room for the draws of one block.
    draws: Vec<Lane>,
}

impl Points {
    /// The points of one replicate with so many draws a path.
    pub fn new(draws: usize, key: [u32; 2], trade: [u32; 2], replicate: u32) -> Self {
        // One more chooses among laws.
        let plain = directions((draws + 1).min(DIMENSIONS));
        let scrambled = (0_u32..).zip(&plain).map(|(number, one)| Scrambled::new(one, key, trade, replicate, number));
        Self { dimensions: scrambled.collect(), draws: vec![[0.0; BLOCK]; draws] }
    }

    /// A number between 0 and 1 for each of the points numbered from `first` on.
    pub fn choices(&self, first: u64, stream: Stream, numbers: &mut Lane) {
        let Some(dimension) = self.dimensions.get(self.draws.len()) else {
            return uniforms(stream, CHOICE, numbers);
        };
        let mut coordinates = [0; BLOCK];
        dimension.fill(first as u32, &mut coordinates);
        for (number, word) in numbers.iter_mut().zip(&coordinates) {
            *number = uniform(*word);
        }
    }

    /// The draws of the points numbered from `first` on, along a path when there is a bridge. Draws beyond the last
    /// dimension come from `stream`.
    pub fn block(&mut self, first: u64, stream: Stream, bridge: Option<&Bridge>, words: &mut Words) -> &[Lane] {
        let mut coordinates = [0; BLOCK];
        let dimensions = &self.dimensions;
        let mut draw = |number: usize, normals: &mut Lane| match dimensions.get(number) {
            Some(dimension) => {
                dimension.fill(first as u32, &mut coordinates);
                for (normal, word) in normals.iter_mut().zip(&coordinates) {
                    *normal = quantile(*word);
                }
            }
            None => fill(stream, number as u32, words, normals),
        };
        match bridge {
            Some(bridge) => bridge.fill(&mut self.draws, draw),
            None => self.draws.iter_mut().enumerate().for_each(|(number, normals)| draw(number, normals)),
        }
        &self.draws
    }
}
