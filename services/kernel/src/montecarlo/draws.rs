//! Where a block of paths takes its normals from: a stream, its mirror image, or quasi-random points.

use super::{
    bridge::Bridge,
    normal::{BLOCK, Stream, Words, fill, quantile},
    sobol::{DIMENSIONS, Scrambled, directions},
};

/// One draw of a whole block.
pub type Lane = [f64; BLOCK];

/// The normals of one block.
pub enum Draws<'d> {
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
}

impl Draws<'_> {
    /// Draw number `draw`: a time step, or an underlying.
    pub fn take(&mut self, draw: u32, normals: &mut Lane) {
        match self {
            Self::Stream { stream, mirrored, words } => {
                fill(*stream, draw, words, normals);
                if *mirrored {
                    normals.iter_mut().for_each(|normal| *normal = -*normal);
                }
            }
            Self::Points(points) => *normals = points[draw as usize],
        }
    }
}

/// One replicate of a trade's quasi-random points.
pub struct Points {
    dimensions: Vec<Scrambled>,
    /// Room for the draws of one block.
    draws: Vec<Lane>,
}

impl Points {
    /// The points of one replicate with so many draws a path.
    pub fn new(draws: usize, key: [u32; 2], trade: [u32; 2], replicate: u32) -> Self {
        let plain = directions(draws.min(DIMENSIONS));
        let scrambled = (0_u32..).zip(&plain).map(|(number, one)| Scrambled::new(one, key, trade, replicate, number));
        Self { dimensions: scrambled.collect(), draws: vec![[0.0; BLOCK]; draws] }
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
