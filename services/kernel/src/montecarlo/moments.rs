//! Mean and variance that are gathered block by block and merged in a fixed order.

/// Count, mean and sum of squared deviations of some values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of values.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// Sum of squared deviations from the mean.
    pub deviations: f64,
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
        Self { count: values.len() as u64, mean, deviations }
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
        }
    }

    /// Standard error of the mean; 0 for fewer than two values.
    pub fn standard_error(self) -> f64 {
        if self.count < 2 {
            return 0.0;
        }
        let count = self.count as f64;
        (self.deviations / (count - 1.0) / count).sqrt()
    }
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
