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

/// One draw of a whole block.
pub type Lane = [f64; BLOCK];
/// Philox calls that serve one draw of a block: each yields the draw of four paths.
pub const QUARTER: usize = BLOCK / 4;

/// Which random numbers to take: together with the draw's number this is the counter, and the seed is the key.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    /// From the seed, see [`super::philox::key`].
    pub key: [u32; 2],
    /// Identifies the trade, see [`super::philox::stream`].
    pub trade: [u32; 2],
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
        let quad = philox([first.wrapping_add(i as u32), draw, stream.trade[0], stream.trade[1]], stream.key);
        [w0[i], w1[i], w2[i], w3[i]] = quad;
    }
    let (front, back) = normals.split_at_mut(2 * QUARTER);
    pair(w0, w1, front);
    pair(w2, w3, back);
}

/// Fills `numbers` with one number between 0 and 1 for every path of the block.
pub fn uniforms(stream: Stream, draw: u32, numbers: &mut [f64; BLOCK]) {
    let first = stream.block.wrapping_mul(QUARTER as u32);
    for (quad, numbers) in (0..).zip(numbers.chunks_exact_mut(4)) {
        let words = philox([first.wrapping_add(quad), draw, stream.trade[0], stream.trade[1]], stream.key);
        for (number, word) in numbers.iter_mut().zip(words) {
            *number = uniform(word);
        }
    }
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

/// The normal quantile of the middle of a word's cell, by Wichura's algorithm AS 241 (PPND16, Applied Statistics 37,
/// 1988); relative error about 1e-15. Its third branch is for probabilities below 1e-11, which no word has.
#[inline(always)]
pub fn quantile(word: u32) -> f64 {
    let p = uniform(word);
    let q = p - 0.5;
    let r = 0.180_625 - q * q;
    let central = q * polynomial(&CENTRAL_NUMERATOR, r) / polynomial(&CENTRAL_DENOMINATOR, r);
    let tail = if q < 0.0 { p } else { 1.0 - p };
    let r = (-ln(tail)).sqrt() - 1.6;
    let outer = polynomial(&TAIL_NUMERATOR, r) / polynomial(&TAIL_DENOMINATOR, r);
    let outer = if q < 0.0 { -outer } else { outer };
    if q.abs() <= 0.425 { central } else { outer }
}

#[inline(always)]
fn polynomial(coefficients: &[f64; 8], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

const CENTRAL_NUMERATOR: [f64; 8] = [
    3.387_132_872_796_366_5,
    1.331_416_678_917_843_8e2,
    1.971_590_950_306_551_3e3,
    1.373_169_376_550_946e4,
    4.592_195_393_154_987e4,
    6.726_577_092_700_87e4,
    3.343_057_558_358_813e4,
    2.509_080_928_730_122_7e3,
];
const CENTRAL_DENOMINATOR: [f64; 8] = [
    1.0,
    4.231_333_070_160_091e1,
    6.871_870_074_920_579e2,
    5.394_196_021_424_751e3,
    2.121_379_430_158_659_7e4,
    3.930_789_580_009_271e4,
    2.872_908_573_572_194_3e4,
    5.226_495_278_852_854e3,
];
const TAIL_NUMERATOR: [f64; 8] = [
    1.423_437_110_749_683_5,
    4.630_337_846_156_546,
    5.769_497_221_460_691,
    3.647_848_324_763_204_5,
    1.270_458_252_452_368_4,
    2.417_807_251_774_506e-1,
    2.272_384_498_926_918_4e-2,
    7.745_450_142_783_414e-4,
];
const TAIL_DENOMINATOR: [f64; 8] = [
    1.0,
    2.053_191_626_637_759,
    1.676_384_830_183_803_8,
    6.897_673_349_851e-1,
    1.481_039_764_274_800_8e-1,
    1.519_866_656_361_645_7e-2,
    5.475_938_084_995_345e-4,
    1.050_750_071_644_416_9e-9,
];
