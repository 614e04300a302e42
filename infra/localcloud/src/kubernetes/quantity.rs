//! Kubernetes quantities (`500m`, `1Gi`), counted in thousandths.

/// The quantity in thousandths; none when it cannot be read.
pub fn parse(text: &str) -> Option<i128> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-'))).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let (multiplier, divisor): (i128, i128) = match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "" => (1, 1),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: u32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            (10_i128.checked_pow(power.min(18))?, 1)
        }
    };
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() || whole.len() > 18 || fraction.len() > 9 || digits.contains(['+', '-'])
    {
        return None;
    }
    let number: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?.checked_mul(divisor)?;
    let thousandths = number.checked_mul(multiplier)?.checked_mul(1_000)?;
    // Rounded up, as Kubernetes does.
    let amount = thousandths.checked_add(scale - 1)? / scale;
    Some(if negative { -amount } else { amount })
}

/// Writes thousandths as a quantity: `2`, `500m`, and whole binary units for memory.
pub fn format(thousandths: i128, binary: bool) -> String {
    if thousandths % 1_000 != 0 {
        return format!("{thousandths}m");
    }
    let whole = thousandths / 1_000;
    if binary && whole != 0 {
        for (suffix, size) in [("Gi", 1_i128 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)] {
            if whole % size == 0 {
                return format!("{}{suffix}", whole / size);
            }
        }
    }
    whole.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, thousandths) in [
            ("1", 1_000),
            ("500m", 500),
            ("0.5", 500),
            ("1Ki", 1_024_000),
            ("1e3", 1_000_000),
            ("-1", -1_000),
            ("1.5Gi", 1_610_612_736_000),
        ] {
            assert_eq!(parse(text), Some(thousandths), "{text}");
        }
        for wrong in ["", "x", "1x", "1.2.3", "--1", "1 Gi"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        assert_eq!(format(1_500, false), "1500m");
        assert_eq!(format(2_147_483_648_000, true), "2Gi");
    }
}
