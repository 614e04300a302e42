//! Correlated normals: Cholesky's factor of a correlation matrix.

/// Pivots and remainders below this are rounding.
const ROUNDING: f64 = 1e-10;

/// A lower triangular matrix whose product with its transpose is a correlation matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// Rows; row `i` has `i + 1` entries.
    pub rows: Vec<Vec<f64>>,
    /// True when the matrix is positive definite, so that it has an inverse.
    pub definite: bool,
}

/// Factorises a symmetric matrix, of which the lower triangle is read; `None` when it is not positive semi-definite.
pub fn cholesky(matrix: &[Vec<f64>]) -> Option<Factor> {
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(matrix.len());
    let mut definite = true;
    for (i, wanted) in matrix.iter().enumerate() {
        let mut row: Vec<f64> = Vec::with_capacity(i + 1);
        for (j, known) in rows.iter().enumerate() {
            let rest = wanted[j] - dot(&row, known);
            let pivot = known[j];
            if pivot > 0.0 {
                row.push(rest / pivot);
            } else if rest.abs() < ROUNDING.sqrt() {
                row.push(0.0);
            } else {
                return None;
            }
        }
        let pivot = wanted[i] - dot(&row, &row);
        if pivot < -ROUNDING {
            return None;
        }
        definite &= pivot > ROUNDING;
        row.push(if pivot > ROUNDING { pivot.sqrt() } else { 0.0 });
        rows.push(row);
    }
    Some(Factor { rows, definite })
}

/// Product of two rows over what they share.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
