//! Amounts of memory as Kubernetes writes them (`512Mi`, `2Gi`, `1.5G`), in bytes.

/// Suffixes and what they stand for, the binary ones first since `Ki` ends like nothing decimal does.
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

/// The bytes a quantity stands for, rounded up as Kubernetes does; `None` when it is not a positive quantity.
pub fn bytes(text: &str) -> Option<u64> {
    let (number, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)))?;
    let plain = |c: char| c.is_ascii_digit() || c == '.';
    if number.is_empty() || !number.chars().all(plain) || !number.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let amount = (number.parse::<f64>().ok()? * factor).ceil();
    // Above this a float does not tell one byte from the next, and no machine has as much.
    (1.0..=9e15).contains(&amount).then_some(amount as u64)
}

/// The thousandths that a quantity of processors stands for (`1`, `100m`, `1.5`); `None` when it is none.
pub fn millis(text: &str) -> Option<u64> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(number) => (number, 1.0),
        None => (text, 1000.0),
    };
    let amount = number.parse::<f64>().ok()? * factor;
    (0.0..=9e15).contains(&amount).then_some(amount as u64)
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
        ] {
            assert_eq!(bytes(text), Some(wanted), "{text}");
        }
        for text in ["", "0", "Gi", "-1Gi", "1 Gi", "2GB", "1e3", "abc", ".5Gi", "1.2.3Mi", "99999999Pi", "1Gi\n"] {
            assert_eq!(bytes(text), None, "{text:?}");
        }
    }
}
