//! Standard normal draws for a whole block of paths at once, by Box and Muller's method over Philox words.
//!
//! A word is 32 bits, so a draw comes from a lattice and is at most 6.8 in size; at the limit of 1e9 paths the bias
//! of that is far below the standard error.

use super::{
    elementary::{ln, sin_cos},
    philox::philox,
};

/// Paths of one block. Its arrays fit into the first-level cache.
pub const BLOCK: usize = 1024;
/// Philox calls that serve one draw of a block: each yields the draw of four paths.
pub const QUARTER: usize = BLOCK / 4;

/// Which random numbers to take: together with the draw's number this is the counter, and the seed is the key.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// From the seed, see [`super::philox::key`].
    pub key: [u32; 2],
    /// Number of the trade within the whole book.
    pub trade: u32,
    /// Number of the block of paths within the trade.
    pub block: u32,
}

/// Words of one draw of a block, as the generator yields them.
pub struct Words([[u32; QUARTER]; 4]);

impl Words {
    /// Room for the words of one draw.
    pub fn new() -> Self {
        Self([[0; QUARTER]; 4])
    }
}

impl Default for Words {
    fn default() -> Self {
        Self::new()
    }
}

/// Fills `normals` with draw number `draw` (time step, then underlying) of every path of the block.
#[inline(always)]
pub fn fill(stream: Stream, draw: u32, words: &mut Words, normals: &mut [f64; BLOCK]) {
    let first = stream.block.wrapping_mul(QUARTER as u32);
    let [w0, w1, w2, w3] = &mut words.0;
    for i in 0..QUARTER {
        let quad = philox([first.wrapping_add(i as u32), draw, stream.trade, 0], stream.key);
        [w0[i], w1[i], w2[i], w3[i]] = quad;
    }
    let (front, back) = normals.split_at_mut(2 * QUARTER);
    pair(w0, w1, front);
    pair(w2, w3, back);
}

/// Two independent normals from each pair of words: the first of all pairs, then the second of all pairs.
#[inline(always)]
fn pair(radius: &[u32; QUARTER], angle: &[u32; QUARTER], out: &mut [f64]) {
    let (first, second) = out.split_at_mut(QUARTER);
    let (first, second) = (&mut first[..QUARTER], &mut second[..QUARTER]);
    for i in 0..QUARTER {
        let length = (-2.0 * ln(uniform(radius[i]))).sqrt();
        let (sin, cos) = sin_cos(angle[i]);
        first[i] = length * cos;
        second[i] = length * sin;
    }
}

/// The word as a number in (0, 1), the middle of its cell.
#[inline(always)]
pub fn uniform(word: u32) -> f64 {
    // The signed conversion is the one every processor has as a vector instruction.
    f64::from((word ^ 0x8000_0000) as i32) * (1.0 / 4_294_967_296.0) + (0.5 + 0.5 / 4_294_967_296.0)
}
