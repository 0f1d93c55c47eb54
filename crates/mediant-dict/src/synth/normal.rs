//! The standard normal distribution from basic operations alone: the same bits on every machine.

/// Pieces of equal probability in [`Tail`].
const PIECES: usize = 256;

/// Beyond this many standard deviations lie 1e-18 of the distribution.
const FAR: f64 = 8.75;

/// The probability of a number above `z`, within 1e-15.
pub(super) fn above(z: f64) -> f64 {
    if z.abs() > FAR {
        return if z > 0.0 { 0.0 } else { 1.0 };
    }
    // Marsaglia 2004 (doi:10.18637/jss.v011.i04): Φ(z) = ½ + φ(z) (z + z³/3 + z⁵/(3·5) + …).
    let (mut term, mut sum, mut odd) = (z, z, 1.0);
    loop {
        odd += 2.0;
        term *= z * z / odd;
        let next = sum + term;
        if next == sum {
            break;
        }
        sum = next;
    }
    const ROOT_OF_TWO_PI: f64 = 2.506_628_274_631_000_5;
    (0.5 - exp(-0.5 * z * z) / ROOT_OF_TWO_PI * sum).clamp(0.0, 1.0)
}

/// The number above which lies the probability `p`; infinite for 0 and 1.
pub(super) fn quantile_above(p: f64) -> f64 {
    if p <= 0.0 {
        return f64::INFINITY;
    }
    if p >= 1.0 {
        return f64::NEG_INFINITY;
    }
    let (mut low, mut high) = (-FAR, FAR);
    // Until there is no number between them.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if above(middle) > p { low = middle } else { high = middle }
    }
}

/// eˣ for −40 < x ≤ 0, within 1e-15 of its size: x = n ln 2 + r, eʳ by its series, 2ⁿ in the exponent.
fn exp(x: f64) -> f64 {
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = x - n * std::f64::consts::LN_2;
    let series = (1..=16).rev().fold(1.0, |sum, k| 1.0 + sum * r / f64::from(k));
    series * f64::from_bits(((1023 + n as i64) as u64) << 52)
}

/// Decides whether a random normal number is above a cutoff without making the number.
///
/// A 32-bit word u stands for the number above which lies the probability (u + ½) / 2³². Nearly always the word's first
/// eight bits decide, by a table.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    /// Entry i: above it lies the probability i / 256.
    bounds: [f32; PIECES + 1],
}

impl Tail {
    pub(super) fn new() -> Self {
        Self { bounds: std::array::from_fn(|i| quantile_above(i as f64 / PIECES as f64) as f32) }
    }

    /// Whether the number that a word stands for is above the cutoff.
    #[inline(always)]
    pub(super) fn is_above(&self, word: u32, cutoff: f32) -> bool {
        let piece = (word >> 24) as usize;
        if cutoff >= self.bounds[piece] {
            return false;
        }
        cutoff <= self.bounds[piece + 1] || is_above(word, cutoff)
    }
}

#[inline(never)]
fn is_above(word: u32, cutoff: f32) -> bool {
    above(f64::from(cutoff)) * 4_294_967_296.0 > f64::from(word) + 0.5
}

#[cfg(test)]
mod tests {
    use super::{Tail, above, is_above, quantile_above};
    use mediant_tensor::random::{stream, unit_f64};
    use rand_chacha::rand_core::Rng;

    #[test]
    fn probabilities_are_those_of_the_tables() {
        // 0.5 erfc(z / √2) of the C library.
        let table = [
            (0.0, 0.5),
            (0.5, 0.308_537_538_725_986_9),
            (1.0, 0.158_655_253_931_457_07),
            (-1.959_963_984_540_054, 0.975),
            (3.0, 1.349_898_031_630_095_7e-3),
            (5.0, 2.866_515_718_791_946e-7),
            (-6.0, 1.0 - 9.865_876_450_377_012e-10),
        ];
        for (z, p) in table {
            assert!((above(z) - p).abs() < 1e-15, "{z}: {} is not {p}", above(z));
        }
        assert_eq!((above(20.0), above(-20.0), above(f64::INFINITY)), (0.0, 1.0, 0.0));
    }

    #[test]
    fn quantiles_invert_probabilities() {
        for p in [1e-9, 5e-4, 0.1, 0.4, 0.5, 0.9, 0.999] {
            assert!((above(quantile_above(p)) - p).abs() < 1e-15, "{p}");
        }
        assert_eq!((quantile_above(0.0), quantile_above(1.0)), (f64::INFINITY, f64::NEG_INFINITY));
    }

    #[test]
    fn the_table_decides_as_the_distribution_does() {
        let (tail, mut rng) = (Tail::new(), stream(0, "test"));
        for _ in 0..200_000 {
            let cutoff = (8.0 * unit_f64(&mut rng) - 4.0) as f32;
            let word = rng.next_u32();
            assert_eq!(tail.is_above(word, cutoff), is_above(word, cutoff), "{word} {cutoff}");
        }
        for word in [0, 1, u32::MAX] {
            assert!(tail.is_above(word, f32::NEG_INFINITY) && !tail.is_above(word, f32::INFINITY));
        }
        // The smallest probability that a word can stand for.
        assert!(tail.is_above(0, 6.0) && !tail.is_above(0, 6.6));
    }

    #[test]
    fn as_many_are_above_as_should_be() {
        let (tail, mut rng) = (Tail::new(), stream(1, "test"));
        const N: usize = 400_000;
        for p in [0.001, 0.03, 0.4, 0.9] {
            let cutoff = quantile_above(p) as f32;
            let count = (0..N).filter(|_| tail.is_above(rng.next_u32(), cutoff)).count() as f64;
            // Five standard deviations of a binomial count.
            assert!((count - p * N as f64).abs() < 5.0 * (N as f64 * p * (1.0 - p)).sqrt(), "{p}: {count}");
        }
    }
}
