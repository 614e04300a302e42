//! Kubernetes quantities of memory (`512Mi`, `2Gi`, `1.5G`) and CPU (`100m`, `1.5`) as numbers.

/// Suffixes and their factors.
const SUFFIXES: [(&str, f64); 12] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("m", 1e-3),
    ("", 1.0),
];

/// The bytes of a quantity, rounded up as Kubernetes does; `None` when it is not a positive quantity.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    Some(scaled(number, factor)?.ceil() as u64).filter(|bytes| *bytes > 0)
}

/// The thousandths of a CPU in a quantity (`1`, `100m`, `1.5`); `None` when it is not a quantity.
pub fn millis(text: &str) -> Option<u64> {
    let (number, factor) = text.strip_suffix('m').map_or((text, 1000.0), |number| (number, 1.0));
    Some(scaled(number, factor)? as u64)
}

/// A decimal number without sign or exponent, times a factor.
fn scaled(number: &str, factor: f64) -> Option<f64> {
    let is_plain = number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let amount = number.parse::<f64>().ok().filter(|_| is_plain)? * factor;
    // Above this a float cannot tell one byte from the next, and no machine has as much.
    (0.0..=9e15).contains(&amount).then_some(amount)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, wanted) in [
            ("512Mi", 536_870_912),
            ("2Gi", 2_147_483_648),
            ("1.5G", 1_500_000_000),
            ("128974848", 128_974_848),
            ("1k", 1000),
            ("1500m", 2),
            (".5Gi", 536_870_912),
        ] {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for text in ["", "0", "Gi", "-1Gi", "1 Gi", "2GB", "1e3", "abc", ".", "1.2.3Mi", "99999999Pi", "1Gi\n"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
        for (text, wanted) in [("1", Some(1000)), ("100m", Some(100)), ("1.5", Some(1500)), ("1e3", None), ("", None)] {
            assert_eq!(millis(text), wanted, "{text:?}");
        }
    }
}
