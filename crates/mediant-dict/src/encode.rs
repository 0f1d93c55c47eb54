//! From inputs to codes: what training and inference share.

use mediant_tensor::kernels::simd;
use mediant_tensor::kernels::sparse::Codes;
use mediant_tensor::kernels::topk::{TopKScratch, top_k};
use rayon::prelude::*;

use crate::Weights;
use crate::product::add_times_transposed;

/// `a · x + b · row` for every row of `x`, in the buffer.
pub(crate) fn scaled_plus_rows<'a>(a: f32, x: &[f32], b: f32, row: &[f32], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
    let out = sized(buffer, x.len());
    out.par_chunks_mut(row.len()).zip(x.par_chunks(row.len())).for_each(|(out, x)| {
        out.iter_mut().zip(x).zip(row).for_each(|((out, x), row)| *out = a * x + b * row);
    });
    out
}

/// A buffer as a slice of exactly this length, whatever it holds.
pub(crate) fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}

/// A buffer as a slice of this many zeros.
pub(crate) fn zeroed(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    let out = sized(buffer, len);
    out.par_chunks_mut(1 << 16).for_each(|chunk| chunk.fill(0.0));
    out
}

/// `inputs · W_enc + b_enc`, in the buffer.
pub(crate) fn pre_activations<'a>(weights: &Weights, inputs: &[f32], buffer: &'a mut Vec<f32>) -> &'a mut [f32] {
    let hidden = sized(buffer, inputs.len() / weights.d_in * weights.d_sae);
    hidden.par_chunks_mut(weights.d_sae).for_each(|row| row.copy_from_slice(&weights.b_enc));
    add_times_transposed(hidden, 1.0, inputs, &weights.w_enc, weights.d_in);
    hidden
}

/// Calls `work(row, values, sums)` for every row of a matrix. What the calls add to `sums` is added to `totals`, one number
/// a column, in an order that does not depend on the threads. Returns the sum of what they return.
pub(crate) fn each_row_adding(
    matrix: &mut [f32],
    totals: &mut [f32],
    work: impl Fn(usize, &mut [f32], &mut [f32]) -> usize + Sync,
) -> usize {
    const ROWS: usize = 64;
    let width = totals.len();
    let blocks = matrix.par_chunks_mut(ROWS * width).enumerate().map(|(block, rows)| {
        let mut sums = vec![0.0; width];
        let rows = rows.chunks_exact_mut(width).enumerate();
        let count: usize = rows.map(|(row, values)| simd(|| work(block * ROWS + row, values, &mut sums))).sum();
        (count, sums)
    });
    let mut count = 0;
    for (of_block, sums) in blocks.collect::<Vec<_>>() {
        count += of_block;
        totals.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
    }
    count
}

/// Cuts at zero and adds every column to `totals`; how many entries stay above zero.
pub(crate) fn rectify_adding(hidden: &mut [f32], totals: &mut [f32]) -> usize {
    each_row_adding(hidden, totals, |_, row, sums| {
        let mut active = 0u32;
        for (x, sum) in row.iter_mut().zip(sums) {
            *x = if *x > 0.0 { *x } else { 0.0 };
            *sum += *x;
            active += u32::from(*x > 0.0);
        }
        active as usize
    })
}

/// The magnitude of `gated` where its gate is open: max((π − b_gate) e^r_mag + b_mag, 0).
#[inline(always)]
pub(crate) fn magnitude(pi: f32, b_gate: f32, stretch: f32, b_mag: f32) -> f32 {
    ((pi - b_gate) * stretch + b_mag).max(0.0)
}

/// The entries above zero.
pub(crate) fn positive_entries(hidden: &[f32], width: usize) -> Codes {
    Codes::collect(hidden.par_chunks(width), |row, (): &mut (), codes| {
        codes.push_row((0u32..).zip(row.iter().copied()).filter(|(_, value)| *value > 0.0));
    })
}

/// Multiplies every row by `scale`.
pub(crate) fn times_columns(hidden: &mut [f32], scale: &[f32]) {
    hidden.par_chunks_mut(scale.len()).for_each(|row| {
        simd(|| row.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale));
    });
}

/// The largest entries of all rows together where they are above zero: at least the `entries` largest, and few more.
pub(crate) fn largest_of_all(hidden: &[f32], width: usize, entries: usize) -> Codes {
    // The entries-th largest of the maxima of disjoint groups is a lower bound of the entries-th largest entry; with
    // eight groups to each wanted entry it is nearly exact.
    let depth = (hidden.len() / (8 * entries.max(1))).clamp(1, width);
    let groups = width / depth;
    let maxima = hidden.par_chunks(width).flat_map_iter(|row| {
        let mut maxima = vec![f32::NEG_INFINITY; groups];
        simd(|| {
            for slice in row.chunks_exact(groups) {
                maxima.iter_mut().zip(slice).for_each(|(max, &x)| *max = if x > *max { x } else { *max });
            }
        });
        maxima
    });
    let mut maxima: Vec<f32> = maxima.collect();
    let bound = match entries.checked_sub(1) {
        None => f32::INFINITY,
        Some(last) if last < maxima.len() => *maxima.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1,
        Some(_) => f32::NEG_INFINITY,
    };
    Codes::collect(hidden.par_chunks(width), |row, (): &mut (), codes| {
        codes.push_row((0u32..).zip(row.iter().copied()).filter(|(_, x)| *x >= bound && *x > 0.0));
    })
}

/// The `entries` largest entries; of equal ones those of earlier rows and lower latents.
pub(crate) fn keep_largest(codes: Codes, entries: usize) -> Codes {
    if codes.entries() <= entries {
        return codes;
    }
    let Some(last) = entries.checked_sub(1) else { return codes.filtered(|_| false) };
    let mut values = codes.values().to_vec();
    let least = *values.select_nth_unstable_by(last, |a, b| b.total_cmp(a)).1;
    let above = codes.values().iter().filter(|value| **value > least).count();
    let mut equal = entries - above;
    codes.filtered(|value| {
        let kept = value > least || (value == least && equal > 0);
        equal -= usize::from(kept && value == least);
        kept
    })
}

/// Multiplies every row by `scale`, if there is one, and keeps the k largest of each row where they are above zero.
pub(crate) fn choose(hidden: &mut [f32], width: usize, scale: Option<&[f32]>, k: usize) -> Codes {
    Codes::collect(hidden.par_chunks_mut(width), |row, scratch: &mut TopKScratch, codes| {
        if let Some(scale) = scale {
            simd(|| row.iter_mut().zip(scale).for_each(|(x, scale)| *x *= scale));
        }
        codes.push_row(top_k(row, k, scratch).iter().copied().filter(|(_, value)| *value > 0.0));
    })
}

#[cfg(test)]
mod tests {
    use super::{keep_largest, largest_of_all};
    use mediant_tensor::kernels::sparse::Codes;
    use proptest::prelude::*;

    /// The `entries` largest above zero by sorting, those of equal size in their order.
    fn sorted(hidden: &[f32], entries: usize) -> Vec<f32> {
        let mut order: Vec<usize> = (0..hidden.len()).collect();
        order.sort_by(|&a, &b| hidden[b].total_cmp(&hidden[a]));
        let mut kept = vec![0.0; hidden.len()];
        order[..entries.min(hidden.len())].iter().for_each(|&i| kept[i] = hidden[i].max(0.0));
        kept
    }

    proptest! {
        #[test]
        fn the_largest_of_a_batch_are_those_of_sorting(
            width in 1usize..50,
            // Few different values make many ties.
            values in prop::collection::vec(prop_oneof![(-3i8..4).prop_map(f32::from), -1f32..4.0], 50..1200),
            share in 0f64..1.2,
            cut in 0f64..1.0,
        ) {
            let rows = values.len() / width;
            let hidden = &values[..rows * width];
            let entries = (share * share * hidden.len() as f64) as usize;
            let found = largest_of_all(hidden, width, entries);
            prop_assert_eq!(keep_largest(found, entries).to_dense(width), sorted(hidden, entries));
            // A batch in two pieces.
            let (first, second) = hidden.split_at((cut * rows as f64) as usize * width);
            let mut found = Codes::default();
            found.append(&largest_of_all(first, width, entries));
            found.append(&largest_of_all(second, width, entries));
            prop_assert_eq!(keep_largest(found, entries).to_dense(width), sorted(hidden, entries));
        }
    }

    #[test]
    fn the_first_choice_keeps_few_more() {
        let mut hidden = vec![0.0; 64 * 1024];
        mediant_tensor::random::fill_normal(&mut mediant_tensor::random::stream(0, "test"), &mut hidden, 0.0, 1.0);
        let found = largest_of_all(&hidden, 1024, 64 * 16).entries();
        assert!((64 * 16..64 * 20).contains(&found), "{found}");
    }
}
