//! Places: horizontal centres of slots, given their order and widths.

use super::layout::{Layout, What};

const ROUNDS: usize = 16;

/// Centres of all slots, none negative at its left edge.
///
/// Each row in turn wants to stand below (above) its neighbours; the nearest centres that keep the order and the gaps are the
/// isotonic regression of what is wanted, found by pooling adjacent violators. Rows take turns, down and up.
pub(super) fn centres(layout: &Layout, width: impl Fn(usize) -> f64, gap: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let (above, below) = layout.neighbours();
    let apart = |a: usize, b: usize| f64::midpoint(width(a), width(b)) + gap(a, b);
    let mut centre = vec![0.0; layout.slots.len()];
    for row in &layout.rows {
        let mut x = 0.0;
        for (i, &slot) in row.iter().enumerate() {
            x += if i == 0 { width(slot) / 2.0 } else { apart(row[i - 1], slot) };
            centre[slot] = x;
        }
    }
    let bend = |slot: usize| layout.slots[slot].what == What::Bend;
    // Long edges are straightened first: a kink in one costs more than a stage standing a little aside.
    let pull = |a: usize, b: usize| match (bend(a), bend(b)) {
        (true, true) => 8.0,
        (true, false) | (false, true) => 2.0,
        (false, false) => 1.0,
    };
    for round in 0..ROUNDS {
        let down = round % 2 == 0;
        let last = round + 2 >= ROUNDS;
        let rows: Vec<usize> =
            if down { (0..layout.rows.len()).collect() } else { (0..layout.rows.len()).rev().collect() };
        for r in rows {
            let row = &layout.rows[r];
            let mut wanted = Vec::with_capacity(row.len());
            let mut weight = Vec::with_capacity(row.len());
            for &slot in row {
                let near: Vec<usize> = match (down, last) {
                    (_, true) => above[slot].iter().chain(&below[slot]).copied().collect(),
                    (true, false) => above[slot].clone(),
                    (false, false) => below[slot].clone(),
                };
                let total: f64 = near.iter().map(|&n| pull(slot, n)).sum();
                let sum: f64 = near.iter().map(|&n| pull(slot, n) * centre[n]).sum();
                wanted.push(if total > 0.0 { sum / total } else { centre[slot] });
                // Slots that nothing pulls give way.
                weight.push(total.max(0.01));
            }
            for (&slot, x) in row.iter().zip(project(row, &wanted, &weight, apart)) {
                centre[slot] = x;
            }
        }
    }
    let left = (0..centre.len()).map(|s| centre[s] - width(s) / 2.0).fold(f64::INFINITY, f64::min);
    if left.is_finite() {
        centre.iter_mut().for_each(|x| *x -= left);
    }
    centre
}

/// The weighted least-squares fit to `wanted` that keeps every pair of neighbours at least `apart`.
fn project(row: &[usize], wanted: &[f64], weight: &[f64], apart: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    let mut offset = vec![0.0; row.len()];
    for i in 1..row.len() {
        offset[i] = offset[i - 1] + apart(row[i - 1], row[i]);
    }
    // Blocks of (mean, weight, members): what is wanted less the offsets must not decrease.
    let mut blocks: Vec<(f64, f64, usize)> = Vec::new();
    for i in 0..row.len() {
        let mut block = (wanted[i] - offset[i], weight[i], 1);
        while let Some(previous) = blocks.pop_if(|previous| previous.0 > block.0) {
            let total = previous.1 + block.1;
            block = ((previous.0 * previous.1 + block.0 * block.1) / total, total, previous.2 + block.2);
        }
        blocks.push(block);
    }
    let fitted = blocks.iter().flat_map(|&(mean, _, members)| std::iter::repeat_n(mean, members));
    fitted.zip(offset).map(|(y, offset)| y + offset).collect()
}
