//! Numbers of results, for people. Pure.

/// Standard errors on each side of a value that its confidence interval spans: 95 % of a normal distribution.
pub const SPAN: f64 = 1.96;

/// A value and half of its 95 % confidence interval, to the digits that the standard error leaves.
pub fn spelled(value: f64, error: Option<f64>) -> String {
    match error.filter(|error| *error > 0.0 && error.is_finite()) {
        Some(error) => {
            let decimals = decimals(error);
            format!("{} ± {}", number(value, decimals), number(SPAN * error, decimals))
        }
        None => number(value, if value.fract() == 0.0 { 0 } else { decimals(value.abs() / 1000.0) }),
    }
}

/// Decimals at which a number has two digits that count.
fn decimals(number: f64) -> usize {
    if number <= 0.0 || !number.is_finite() {
        return 2;
    }
    usize::try_from(1 - number.log10().floor() as i64).unwrap_or_default().min(9)
}

/// A number for people: thousands set apart, a real minus sign, and powers of ten when it is very large.
pub fn number(value: f64, decimals: usize) -> String {
    if value.abs() >= 1e15 {
        return format!("{value:.3e}").replace('-', "−");
    }
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let grouped = whole.parse().map_or_else(|_| whole.to_owned(), grouped);
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let sign = if value < 0.0 && !is_zero { "−" } else { "" };
    fraction.map_or_else(|| format!("{sign}{grouped}"), |fraction| format!("{sign}{grouped}.{fraction}"))
}

/// A number with its thousands set apart.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_their_error_leaves() {
        for (value, error, text) in [
            (1234.5678, Some(0.0123), "1,234.568 ± 0.024"),
            (-95.123, Some(12.3), "−95 ± 24"),
            (3.0, None, "3"),
            (0.123456, None, "0.12346"),
            (-0.001, Some(0.5), "0.00 ± 0.98"),
            (12_500_000.0, Some(45_000.0), "12,500,000 ± 88,200"),
            (2e18, None, "2.000e18"),
        ] {
            assert_eq!(spelled(value, error), text);
        }
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
    }
}
