//! The k largest entries of a row, without sorting it.

use super::simd;

/// Buffers of [`top_k`], reused from row to row.
#[derive(Debug, Default)]
pub struct TopKScratch {
    group_maxima: Vec<f32>,
    kept: Vec<(u32, f32)>,
    values: Vec<f32>,
}

/// The `k` largest entries of `row` as (index, value), in ascending order of the index.
///
/// Of equal values the one with the lower index wins; `-0.0` equals `0.0`. NaN is never chosen, so a row that holds NaN
/// may give fewer than `k`. Rows are shorter than 2^32.
///
/// Where k is small the row is read twice. A first pass takes the maxima of many groups of entries: the k-th largest maximum
/// has k entries at or above it, so it is a lower bound of the k-th largest entry. A second pass keeps what reaches the
/// bound, a few more than k, among which a selection finds the exact threshold. Else the threshold is searched for by
/// halving, which counts the row some twenty times, sixteen entries at once.
pub fn top_k<'a>(row: &[f32], k: usize, scratch: &'a mut TopKScratch) -> &'a [(u32, f32)] {
    scratch.kept.clear();
    if k == 0 {
        return &scratch.kept;
    }
    let bound = lower_bound(row, k, &mut scratch.group_maxima);
    simd(|| keep_from(bound, row, &mut scratch.kept));
    if scratch.kept.len() > k {
        keep_exactly(k, scratch);
    }
    &scratch.kept
}

/// A value that at least `k` entries reach, if there are so many, and few more.
fn lower_bound(row: &[f32], k: usize, maxima: &mut Vec<f32>) -> f32 {
    // With eight groups to each wanted entry few of the k largest share a group, and the bound is nearly exact.
    let depth = row.len() / (8 * k);
    if depth < 2 {
        return simd(|| kth_largest(row, k));
    }
    let groups = row.len() / depth;
    maxima.clear();
    maxima.resize(groups, f32::NEG_INFINITY);
    // Group j is the entries j, j + groups, j + 2·groups, …: the maxima of neighbouring groups are one vector operation.
    simd(|| {
        for slice in row.chunks_exact(groups) {
            for (max, &x) in maxima.iter_mut().zip(slice) {
                *max = if x > *max { x } else { *max };
            }
        }
    });
    let (_, bound, _) = maxima.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    *bound
}

/// A bound that k entries reach, and more only if they equal the k-th largest; negative infinity if fewer are above that.
#[inline(always)]
fn kth_largest(row: &[f32], k: usize) -> f32 {
    // Numbers in their order are integers in their order: negative ones with the bits below the sign inverted.
    let number = |key: i32| f32::from_bits((key ^ (((key >> 31) as u32) >> 1) as i32) as u32);
    let mut key = i32::MIN;
    for bit in (0..32).rev() {
        let higher = key.wrapping_add(1 << bit);
        let bound = number(higher);
        let reaching = row.iter().map(|&x| u32::from(x >= bound)).sum::<u32>() as usize;
        if reaching >= k {
            key = higher;
        }
        if reaching == k {
            break;
        }
    }
    // No entry reaches the bounds that are not numbers, which lie below negative infinity.
    let bound = number(key);
    if bound.is_nan() { f32::NEG_INFINITY } else { bound }
}

#[inline(always)]
fn keep_from(bound: f32, row: &[f32], kept: &mut Vec<(u32, f32)>) {
    const WIDTH: usize = 32;
    let mut reaching = [(0, 0.0); WIDTH];
    let mut keep = |kept: &mut Vec<(u32, f32)>, start: usize, slice: &[f32]| {
        // Written and overwritten, as a branch that nobody can foretell costs more.
        let mut count = 0;
        for (offset, &x) in slice.iter().enumerate() {
            reaching[count] = ((start + offset) as u32, x);
            count += usize::from(x >= bound);
        }
        kept.extend_from_slice(&reaching[..count]);
    };
    let (chunks, rest) = row.as_chunks::<WIDTH>();
    for (i, chunk) in chunks.iter().enumerate() {
        let reached = chunk.iter().fold(false, |any, &x| any | (x >= bound));
        if reached {
            keep(kept, i * WIDTH, chunk);
        }
    }
    keep(kept, chunks.len() * WIDTH, rest);
}

fn keep_exactly(k: usize, scratch: &mut TopKScratch) {
    let TopKScratch { kept, values, .. } = scratch;
    values.clear();
    // `+ 0.0` turns −0.0 into 0.0, so that the total order below is the order of `>=`; there is no NaN among them.
    values.extend(kept.iter().map(|&(_, x)| x + 0.0));
    let (above, &mut threshold, _) = values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let certain = above.iter().filter(|&&x| x > threshold).count();
    let mut ties = k - certain;
    kept.retain(|&(_, x)| {
        let tie = x == threshold && ties > 0;
        ties -= usize::from(tie);
        tie || x > threshold
    });
}

#[cfg(test)]
mod tests {
    use super::{TopKScratch, top_k};
    use proptest::prelude::*;

    /// The definition: sort by descending value, then ascending index.
    fn by_sorting(row: &[f32], k: usize) -> Vec<(u32, f32)> {
        let mut entries: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).filter(|(_, x)| !x.is_nan()).collect();
        entries.sort_by(|(i, a), (j, b)| b.partial_cmp(a).map_or(i.cmp(j), |order| order.then(i.cmp(j))));
        entries.truncate(k);
        entries.sort_by_key(|&(i, _)| i);
        entries
    }

    fn bits(entries: &[(u32, f32)]) -> Vec<(u32, u32)> {
        entries.iter().map(|&(i, x)| (i, x.to_bits())).collect()
    }

    /// Few distinct values make ties; long rows with a small k use the bound, the others do not.
    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            6 => (-4i8..5).prop_map(|x| f32::from(x) * 0.5),
            3 => any::<f32>(),
            1 => prop::sample::select(vec![0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN]),
        ]
    }

    proptest! {
        #[test]
        fn selection_is_what_sorting_gives(row in prop::collection::vec(value(), 0..600), k in 0usize..40) {
            let mut scratch = TopKScratch::default();
            prop_assert_eq!(bits(top_k(&row, k, &mut scratch)), bits(&by_sorting(&row, k)));
            // The scratch of one row has no effect on the next.
            prop_assert_eq!(bits(top_k(&row, k, &mut scratch)), bits(&by_sorting(&row, k)));
        }
    }

    #[test]
    fn constant_and_sorted_rows() {
        let mut scratch = TopKScratch::default();
        let constant = vec![1.5; 5000];
        assert_eq!(top_k(&constant, 3, &mut scratch), [(0, 1.5), (1, 1.5), (2, 1.5)]);
        let rising: Vec<f32> = (0..5000).map(|x| x as f32).collect();
        assert_eq!(top_k(&rising, 2, &mut scratch), [(4998, 4998.0), (4999, 4999.0)]);
        assert_eq!(top_k(&rising, 9000, &mut scratch).len(), 5000);
    }
}
