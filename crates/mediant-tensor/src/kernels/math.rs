/// `eˣ` with a relative error below 2e-7 (1.5 units in the last place) where the result is a normal number; smaller
/// results are raised to the smallest normal number (1.2e-38), larger ones cut at 3.3e38; NaN stays NaN.
///
/// `x = n ln 2 + r` with |r| ≤ ½ ln 2, `eʳ` by a polynomial of degree 6 (Cephes' `expf`), `2ⁿ` added to the exponent bits.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    /// 1.5 · 2²³: adding it rounds to an integer, which then stands in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons that are false for NaN keep it.
    let x = if x < -87.336_54 { -87.336_54 } else { x };
    let x = if x > 88.722 { 88.722 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let p = p * (r * r) + r + 1.0;
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// The error function within 3e-7, by the quotient of polynomials of Eigen's `generic_fast_erf_float`; NaN stays NaN.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    const ABOVE: [f32; 6] =
        [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2];
    const BELOW: [f32; 4] = [-2.133_740_6e-4, -1.682_827e-3, -7.373_329_3e-3, -1.426_473_9e-2];
    // Beyond 4 the result is 1 in f32.
    let x = if x < -4.0 { -4.0 } else { x };
    let x = if x > 4.0 { 4.0 } else { x };
    let square = x * x;
    let mut above = -2.726_142_3e-10;
    for c in ABOVE {
        above = above * square + c;
    }
    let mut below = -1.456_607_2e-5;
    for c in BELOW {
        below = below * square + c;
    }
    x * above / below
}

/// Lanes of the sums: fixed, so that every processor adds in one order.
const LANES: usize = 16;

/// Σ f(aᵢ, bᵢ) in a fixed order: 16 running sums, added as a tree, then the tail. Both slices have one length.
#[inline(always)]
pub(crate) fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for ((lane, &a), &b) in lanes.iter_mut().zip(a).zip(b) {
            *lane += f(a, b);
        }
    }
    let mut tail = 0.0;
    for (&a, &b) in a_rest.iter().zip(b_rest) {
        tail += f(a, b);
    }
    tree(lanes, |a, b| a + b) + tail
}

/// Σ f(xᵢ), in the order of [`sum2`].
#[inline(always)]
pub(crate) fn sum(x: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(x, x, |x, _| f(x))
}

/// The largest element, NaN not counted; −∞ for an empty slice.
#[inline(always)]
pub(crate) fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = larger(*lane, x);
        }
    }
    rest.iter().fold(tree(lanes, larger), |a, &b| larger(a, b))
}

#[inline(always)]
fn tree(mut lanes: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = f(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::{erf, exp, max, sum};

    #[test]
    fn exp_is_within_its_stated_error() {
        // Every 1,000th f32 of both signs in the range of normal results.
        let mut worst = 0.0f64;
        for sign in [0u32, 1 << 31] {
            for bits in (0..88.7f32.to_bits()).step_by(997) {
                let x = f32::from_bits(bits | sign);
                if x < -87.33 {
                    continue;
                }
                let expected = f64::from(x).exp();
                worst = worst.max((f64::from(exp(x)) - expected).abs() / expected);
            }
        }
        assert!(worst < 2e-7, "{worst:e}");
    }

    #[test]
    fn exp_at_the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::NEG_INFINITY) < 1.3e-38 && exp(-100.0) >= 0.0);
        assert!(exp(f32::INFINITY) > 3e38);
    }

    #[test]
    fn sums_and_maxima_take_every_element() {
        for len in 0..70 {
            let x: Vec<f32> = (0..len).map(|i| (i as f32 * 0.7).sin()).collect();
            let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
            // At most 70 roundings of values below 70.
            assert!((f64::from(sum(&x, |x| x)) - exact).abs() < 1e-4);
            let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&x), largest);
        }
    }

    #[test]
    fn erf_as_in_the_tables() {
        // Abramowitz and Stegun, table 7.1.
        let table = [(0.0, 0.0), (0.1, 0.112_462_92), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)];
        for (x, y) in table {
            assert!((erf(x) - y).abs() < 3e-7 && (erf(-x) + y).abs() < 3e-7, "{x}: {}", erf(x));
        }
        assert!((erf(5.0) - 1.0).abs() < 3e-7 && erf(f32::NAN).is_nan());
    }
}
