//! Mean, variance and extremes that are gathered block by block and merged in a fixed order.

/// Count, mean, sum of squared deviations and extremes of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub deviations: f64,
    /// Least value.
    pub low: f64,
    /// Largest value.
    pub high: f64,
    /// Mean of the squares of the paths behind a value, where one value stands for many.
    pub square: f64,
    /// An error of the mean that the values do not show.
    pub unseen: f64,
}

/// Partial sums kept apart, so that the sum can be computed by vector instructions in an order that never changes.
const LANES: usize = 8;

impl Moments {
    /// Moments of the values of one block, in two passes.
    #[inline(always)]
    pub fn of(values: &[f64]) -> Self {
        if values.is_empty() {
            return Self::default();
        }
        let mean = sum(values, |value| value) / values.len() as f64;
        let deviations = sum(values, |value| (value - mean) * (value - mean));
        let (low, high) = extremes(values);
        Self { count: values.len() as u64, mean, deviations, low, high, square: 0.0, unseen: 0.0 }
    }

    /// Moments of both sets of values together (Chan, Golub and LeVeque). The order of merging matters to the last
    /// bit, so callers merge in block order.
    #[inline(always)]
    pub fn merge(self, other: Self) -> Self {
        if self.count == 0 {
            return other;
        }
        if other.count == 0 {
            return self;
        }
        let count = self.count + other.count;
        let share = other.count as f64 / count as f64;
        let difference = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + difference * share,
            deviations: self.deviations + other.deviations + difference * difference * share * self.count as f64,
            low: self.low.min(other.low),
            high: self.high.max(other.high),
            square: self.square + (other.square - self.square) * share,
            unseen: self.unseen,
        }
    }

    /// Mean of the squares of the values.
    pub fn mean_square(self) -> f64 {
        self.deviations / self.count as f64 + self.mean * self.mean
    }

    /// Standard error of the mean; that which the values show is 0 for fewer than two.
    pub fn standard_error(self) -> f64 {
        if self.count < 2 {
            return self.unseen;
        }
        let count = self.count as f64;
        let shown = self.deviations / (count - 1.0) / count;
        if self.unseen == 0.0 { shown.sqrt() } else { (shown + self.unseen * self.unseen).sqrt() }
    }
}

#[inline(always)]
fn extremes(values: &[f64]) -> (f64, f64) {
    let (mut low, mut high) = ([f64::INFINITY; LANES], [f64::NEG_INFINITY; LANES]);
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            low[lane] = if chunk[lane] < low[lane] { chunk[lane] } else { low[lane] };
            high[lane] = if chunk[lane] > high[lane] { chunk[lane] } else { high[lane] };
        }
    }
    let rest = chunks.remainder();
    let low = rest.iter().chain(&low).fold(f64::INFINITY, |low, value| low.min(*value));
    (low, rest.iter().chain(&high).fold(f64::NEG_INFINITY, |high, value| high.max(*value)))
}

#[inline(always)]
fn sum(values: &[f64], of: impl Fn(f64) -> f64) -> f64 {
    let mut partial = [0.0; LANES];
    let mut chunks = values.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            partial[lane] += of(chunk[lane]);
        }
    }
    for (lane, value) in chunks.remainder().iter().enumerate() {
        partial[lane] += of(*value);
    }
    let [a, b, c, d, e, f, g, h] = partial;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}
