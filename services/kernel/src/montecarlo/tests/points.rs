//! Quasi-random points, the bridge, correlations, and how fast the error falls.

use statrs::distribution::{ContinuousCDF as _, Normal};

use super::*;
use crate::montecarlo::{
    bridge::Bridge,
    correlation::cholesky,
    normal::quantile,
    sobol::{DIMENSIONS, Scrambled, directions, layout},
};

#[test]
fn quantiles_are_accurate() {
    // By the inverse error function at 30 digits.
    for (word, expected) in [
        (0, -6.337_957_754_553_789),
        (1, -6.166_429_517_819_75),
        (1_000, -5.039_851_125_968_712),
        (322_122_547, -1.439_531_470_445_015),
        (984_009_102, -0.741_789_397_514_746_7),
        (2_000_000_000, -0.086_180_949_004_489_7),
        (2_147_483_647, -2.918_099_372_916_623e-10),
    ] {
        assert!((quantile(word) / expected - 1.0).abs() < 3e-15, "{word}: {}", quantile(word));
    }
    let normal = Normal::standard();
    let mut last = f64::NEG_INFINITY;
    for word in (0..=u32::MAX).step_by(4_000_037) {
        let z = quantile(word);
        assert!(z > last && (normal.cdf(z) - uniform(word)).abs() < 1e-9, "{word} {z}");
        assert!((quantile(!word) + z).abs() < 1e-12 * z.abs());
        last = z;
    }
}

#[test]
fn directions_are_those_published() {
    // m_i = v_i / 2^(32-i), extended by the recurrence, as SciPy's generator has them too.
    let first = |dimension: usize| -> Vec<u32> {
        (0..8).map(|bit| directions(DIMENSIONS)[dimension][bit] >> (31 - bit)).collect()
    };
    assert_eq!(first(0), [1; 8]);
    assert_eq!(first(1), [1, 3, 5, 15, 17, 51, 85, 255]);
    assert_eq!(first(2), [1, 3, 3, 9, 29, 23, 71, 197]);
    assert_eq!(first(4), [1, 1, 1, 11, 31, 55, 61, 157]);
    assert_eq!(first(255), [1, 1, 1, 5, 19, 3, 53, 133]);
    assert_eq!(directions(DIMENSIONS)[255][31], 3_526_361_403);
    let all = directions(DIMENSIONS);
    assert_eq!(all.len(), DIMENSIONS);
    for one in all {
        for (bit, direction) in one.iter().enumerate() {
            assert_eq!(direction.trailing_zeros() as usize, 31 - bit, "the numbers are odd and below 2^i");
        }
    }
}

/// Each dimension of a block, scrambled, has one point in every cell of its own, and pairs of the first dimensions have
/// one in every cell of the same area.
#[test]
fn scrambled_points_are_a_net() {
    let plain = directions(DIMENSIONS);
    let points: Vec<[u32; BLOCK]> = (0_u32..)
        .zip(&plain)
        .map(|(number, one)| {
            let mut out = [0; BLOCK];
            Scrambled::new(one, key(5), [1, 2], 3, number).fill(7 * BLOCK as u32, &mut out);
            out
        })
        .collect();
    for one in &points {
        let mut cells: Vec<u32> = one.iter().map(|word| word >> 22).collect();
        cells.sort_unstable();
        assert!(cells.into_iter().eq(0..1024));
    }
    let mut cells: Vec<u32> = points[0].iter().zip(&points[1]).map(|(x, y)| x >> 27 << 5 | y >> 27).collect();
    cells.sort_unstable();
    assert!(cells.into_iter().eq(0..1024));
    // Other replicates, trades and seeds are scrambled otherwise.
    let word = |seed, trade, replicate| {
        let mut out = [0; BLOCK];
        Scrambled::new(&plain[1], key(seed), trade, replicate, 1).fill(0, &mut out);
        out[0]
    };
    assert!(
        [word(6, [1, 2], 3), word(5, [1, 3], 3), word(5, [1, 2], 4)].iter().all(|other| *other != word(5, [1, 2], 3))
    );
}

#[test]
fn no_more_points_than_paths_were_asked_for() {
    for paths in [1, 31, 32, 33, 63, 64, 1000, 65_535, 65_536, 1_000_000_000] {
        let (replicates, points) = layout(paths);
        assert!(u64::from(replicates) * points <= paths && u64::from(replicates) * points * 64 >= paths * 32);
        assert!(paths < 32 || (32..64).contains(&replicates));
        assert!(points.is_power_of_two());
    }
}

#[test]
fn a_bridge_has_independent_steps_of_variance_one() {
    for steps in [1, 2, 3, 7, 12, 52] {
        let mut levels = vec![[0.0; BLOCK]; steps];
        // One unit draw at a time: the squares over all draws add up to the covariance of the steps.
        let mut covariance = vec![vec![0.0; steps]; steps];
        for unit in 0..steps {
            Bridge::new(steps).fill(&mut levels, |draw, normals| normals.fill(if draw == unit { 1.0 } else { 0.0 }));
            for i in 0..steps {
                for j in 0..steps {
                    covariance[i][j] += levels[i][0] * levels[j][0];
                }
            }
        }
        for (i, row) in covariance.iter().enumerate() {
            for (j, value) in row.iter().enumerate() {
                assert!((value - f64::from(u8::from(i == j))).abs() < 1e-12, "{steps} {i} {j}: {value}");
            }
        }
    }
}

#[test]
fn factors_reproduce_their_matrix_and_impossible_ones_are_refused() {
    let matrix = vec![vec![1.0], vec![0.5, 1.0], vec![-0.2, 0.3, 1.0]];
    let factor = cholesky(&matrix).unwrap();
    assert!(factor.definite);
    for (row, wanted) in factor.rows.iter().zip(&matrix) {
        for (other, wanted) in factor.rows.iter().zip(wanted) {
            let product: f64 = row.iter().zip(other).map(|(a, b)| a * b).sum();
            assert!((product - wanted).abs() < 1e-15);
        }
    }
    // Two that are the same: semi-definite, with a third that moves with both, or with one only.
    assert!(!cholesky(&[vec![1.0], vec![1.0, 1.0], vec![0.3, 0.3, 1.0]]).unwrap().definite);
    assert!(cholesky(&[vec![1.0], vec![1.0, 1.0], vec![0.3, 0.2, 1.0]]).is_none());
    assert!(cholesky(&[vec![1.0], vec![0.9, 1.0], vec![-0.9, 0.9, 1.0]]).is_none());
}

/// The true error, not the one reported: over seeds, against the formula.
#[test]
fn the_error_falls_as_it_must() {
    let expected = {
        let trade = trade(geometric(16), OptionType::Call, 100.0, 1.0);
        closed_form(&trade, &market(0.2)).0
    };
    let error = |sampling, paths| {
        let squares: f64 = (0..24)
            .map(|seed| {
                let mut book = book(seed, paths, 0.2, vec![trade(geometric(16), OptionType::Call, 100.0, 1.0)]);
                book.sampling = sampling;
                (simulate(&book, Share::ALL, 2)[0].measures[0].mean - expected).powi(2)
            })
            .sum();
        (squares / 24.0).sqrt()
    };
    // 64 times the paths: 8 times less error from independent paths, far less from points.
    let order = |sampling| (error(sampling, 1 << 11) / error(sampling, 1 << 17)).log(64.0);
    let (independent, mirrored, points) =
        (order(Sampling::PseudoRandom), order(Sampling::Antithetic), order(Sampling::Sobol));
    assert!((0.38..0.62).contains(&independent), "{independent}");
    assert!((0.38..0.62).contains(&mirrored), "{mirrored}");
    assert!(points > 0.75, "{points}");
    // And at the same number of paths, less error in this order.
    let paths = 1 << 15;
    let [plain, mirrored, points] =
        [Sampling::PseudoRandom, Sampling::Antithetic, Sampling::Sobol].map(|sampling| error(sampling, paths));
    assert!(mirrored < plain && points < 0.2 * plain, "{plain} {mirrored} {points}");
}
