//! Numbers as people read them.

/// A float with four significant digits.
///
/// Integral values print without decimals, values that four digits hold exactly without trailing zeros; a rounded value keeps
/// its zeros, so `1.000` is not exactly one. Scientific notation below 1e-4 and, for fractions, from 1e7 on.
pub fn float(x: f64) -> String {
    if x.is_nan() {
        return "NaN".to_string();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    if x == 0.0 {
        return "0".to_string();
    }
    let size = x.abs();
    if x.fract() == 0.0 && size < 1e15 {
        return format!("{x:.0}");
    }
    if !(1e-4..1e7).contains(&size) {
        return format!("{x:.3e}");
    }
    // The exponent after rounding to four digits decides, so that 9.99996 prints as 10.00 and not as 10.000.
    let rounded = format!("{size:.3e}");
    let exponent: i32 = rounded.split_once('e').and_then(|(_, e)| e.parse().ok()).unwrap_or(0);
    let decimals = usize::try_from(3 - exponent).unwrap_or(0);
    let text = format!("{x:.decimals$}");
    if decimals > 0 && text.parse() == Ok(x) {
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    } else {
        text
    }
}

/// A difference, always signed: `+0.0099`, `-3`, `0`.
pub fn signed(x: f64) -> String {
    let text = float(x);
    if x > 0.0 { format!("+{text}") } else { text }
}

/// A fraction as a signed percentage: `+1.1 %`.
pub fn percent(fraction: f64) -> String {
    let percent = fraction * 100.0;
    if !percent.is_finite() {
        return float(percent);
    }
    if percent.abs() >= 1000.0 { format!("{percent:+.0} %") } else { format!("{percent:+.1} %") }
}

/// A count with thousands separators: `65,536`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in bytes with an IEC unit: `512 B`, `1.50 KiB`, `3.02 GiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if n < 1024 {
        return format!("{n} B");
    }
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = n as f64 / 1024.0;
    let mut unit = 0;
    // 1023.5 would round up to four digits and belongs to the next unit.
    while size >= 999.5 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    let decimals = if size < 9.995 { 2 } else { usize::from(size < 99.95) };
    format!("{size:.decimals$} {}", UNITS[unit])
}

/// `1 row`, `2 rows`, `65,536 rows`.
pub fn plural(n: u64, one: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{} {one}s", count(n)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_keep_four_digits() {
        let cases: [(f64, &str); 18] = [
            (0.0, "0"),
            (-0.0, "0"),
            (16.0, "16"),
            (0.25, "0.25"),
            (0.931_249, "0.9312"),
            (0.999_96, "1.000"),
            (9.999_96, "10.00"),
            (-31.256, "-31.26"),
            (1234.5, "1234"),
            (1_234_567.8, "1234568"),
            (12_345_678.0, "12345678"),
            (12_345_678.5, "1.235e7"),
            (0.000_123_46, "0.0001235"),
            (0.000_012_345, "1.234e-5"),
            (1e300, "1.000e300"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (x, expected) in cases {
            assert_eq!(float(x), expected, "{x:?}");
        }
    }

    #[test]
    fn sizes_and_counts() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(65_536), "65,536");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.50 KiB");
        assert_eq!(bytes(1024 * 1024 - 1), "1.00 MiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(signed(0.0099), "+0.0099");
        assert_eq!(percent(-0.011), "-1.1 %");
        assert_eq!(plural(1, "row"), "1 row");
    }
}
