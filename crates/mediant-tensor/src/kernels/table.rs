use super::{build, simd};

/// Row i of the result (`[rows, width]`) is the sum of those rows of `grad` whose id is i, in order. Ids outside the table
/// have no row.
pub(crate) fn embedding_grad(rows: usize, width: usize, ids: &[i32], grad: &[f32]) -> Vec<f32> {
    // Each task looks through all ids for those of its rows: few large tasks.
    let block = rows.div_ceil(16).max(1);
    let (table, _) = build(rows * width, block * width, |i, table| {
        let own = i * block..i * block + table.len() / width;
        simd(
            #[inline(always)]
            || {
                for (&id, grad) in ids.iter().zip(grad.chunks_exact(width)) {
                    let id = id as usize;
                    if own.contains(&id) {
                        let at = (id - own.start) * width;
                        for (total, &g) in table[at..at + width].iter_mut().zip(grad) {
                            *total += g;
                        }
                    }
                }
            },
        );
    });
    table
}
