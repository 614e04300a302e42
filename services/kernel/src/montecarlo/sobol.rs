//! Sobol's quasi-random points, scrambled at random: Matoušek's random linear scramble (1998) and a digital shift, so
//! that every replicate is unbiased and their spread is an honest standard error.

use super::{normal::BLOCK, philox::philox};

/// Direction numbers, see the head of the file.
const TABLE: &str = include_str!("joe-kuo-6.txt");
/// Dimensions that have direction numbers. What a path needs beyond them is pseudo-random; the Brownian bridge has put
/// nearly all of the variance into the first ones.
pub const DIMENSIONS: usize = 256;
/// Bits of a coordinate.
const BITS: usize = 32;
/// Draw numbers from here on belong to the scrambling; no path has so many draws.
const SCRAMBLE: u32 = 0x8000_0000;

/// The direction numbers of one dimension, the highest bit first.
type Directions = [u32; BITS];

/// One scrambled dimension.
#[derive(Clone, Copy, Debug)]
pub struct Scrambled {
    directions: Directions,
    shift: u32,
}

/// The first `count` dimensions, at most [`DIMENSIONS`], not scrambled.
pub fn directions(count: usize) -> Vec<Directions> {
    let mut all = vec![std::array::from_fn(|bit| 1 << (BITS - 1 - bit))];
    all.extend(TABLE.lines().filter(|line| !line.starts_with('#')).take(count.saturating_sub(1)).map(one));
    all.truncate(count);
    all
}

/// One dimension from its line of the table, by the recurrence of Bratley and Fox.
fn one(line: &str) -> Directions {
    let mut numbers = line.split(' ').map(|number| number.parse::<u32>().unwrap_or_default());
    let (_, degree, polynomial) = (numbers.next(), numbers.next().unwrap_or(1) as usize, numbers.next().unwrap_or(0));
    let mut directions = [0; BITS];
    for (bit, number) in numbers.take(BITS).enumerate() {
        directions[bit] = number << (BITS - 1 - bit);
    }
    for bit in degree..BITS {
        let mut next = directions[bit - degree] ^ (directions[bit - degree] >> degree);
        for k in 1..degree {
            if (polynomial >> (degree - 1 - k)) & 1 == 1 {
                next ^= directions[bit - k];
            }
        }
        directions[bit] = next;
    }
    directions
}

impl Scrambled {
    /// Scrambles a dimension for one replicate of one trade; the random words follow from these numbers only.
    pub fn new(directions: &Directions, key: [u32; 2], trade: [u32; 2], replicate: u32, dimension: u32) -> Self {
        let mut words = [0; BITS + 4];
        for (call, four) in words.chunks_exact_mut(4).enumerate() {
            let counter = [replicate << 4 | call as u32, SCRAMBLE | dimension, trade[0], trade[1]];
            four.copy_from_slice(&philox(counter, key));
        }
        // Row i of a lower triangular matrix: bit i itself and a random choice of the higher bits.
        let rows: [u32; BITS] = std::array::from_fn(|bit| {
            let own = 0x8000_0000 >> bit;
            (words[bit] & !(own | (own - 1))) | own
        });
        let scramble = |direction: u32| {
            let bit = |bit: usize| ((direction & rows[bit]).count_ones() & 1) << (BITS - 1 - bit);
            (0..BITS).fold(0, |sum, number| sum | bit(number))
        };
        Self { directions: directions.map(scramble), shift: words[BITS] }
    }

    /// The coordinates of the points numbered from `first`, a multiple of the block's size, on.
    #[inline(always)]
    pub fn fill(&self, first: u32, out: &mut [u32; BLOCK]) {
        let mut start = self.shift;
        for (bit, direction) in self.directions.iter().enumerate() {
            if (first >> bit) & 1 == 1 {
                start ^= direction;
            }
        }
        out[0] = start;
        let mut known = 1;
        for direction in &self.directions[..BLOCK.trailing_zeros() as usize] {
            let (done, rest) = out.split_at_mut(known);
            for (next, before) in rest.iter_mut().zip(done.iter()) {
                *next = before ^ direction;
            }
            known *= 2;
        }
    }
}

/// The points of a trade that is sampled with them: how many replicates, of how many points each. Both follow from the
/// paths asked for, and their product is at most that.
pub fn layout(paths: u64) -> (u32, u64) {
    let least = 32;
    if paths < least {
        return (paths as u32, 1);
    }
    let points = 1 << (paths / least).ilog2();
    ((paths / points) as u32, points)
}
