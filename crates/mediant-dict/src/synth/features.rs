//! The directions of the features: unit vectors pushed apart.

use mediant_tensor::kernels::{Matrix, MatrixMut, matmul_over};
use mediant_tensor::optim::{Adam, Moments};
use mediant_tensor::random;
use rayon::prelude::*;

use super::config::{Orthogonalization, SynthConfig};
use crate::weights::sum_of_squares;

/// Features `[num_features, hidden_dim]` and the bias `[hidden_dim]`.
pub(super) fn draw<E>(
    config: &SynthConfig,
    progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<(Vec<f32>, Vec<f32>), E> {
    let (n, width) = (config.num_features, config.hidden_dim);
    let mut features = vec![0.0; n * width];
    random::fill_normal(&mut random::stream(config.seed, "synthetic features"), &mut features, 0.0, 1.0);
    features.par_chunks_mut(width).for_each(|row| rescale(row, 1.0));
    if let Some(steps) = config.orthogonalization {
        orthogonalize(&mut features, width, steps, progress)?;
    }
    let mut bias = vec![0.0; width];
    random::fill_normal(&mut random::stream(config.seed, "synthetic bias"), &mut bias, 0.0, 1.0);
    rescale(&mut bias, config.bias);
    Ok((features, bias))
}

fn rescale(row: &mut [f32], norm: f64) {
    let factor = (norm / sum_of_squares(row).sqrt().max(1e-8)) as f32;
    row.iter_mut().for_each(|x| *x *= factor);
}

/// Adam on `Σ_{i≠j} (g_i·g_j)² + n Σ_i (‖g_i‖² − 1)²`, then unit vectors again.
fn orthogonalize<E>(
    features: &mut [f32],
    width: usize,
    steps: Orthogonalization,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<(), E> {
    let mut moments = Moments::zeros(features.len());
    let (mut gram, mut gradient) = (vec![0.0; width * width], vec![0.0; features.len()]);
    for step in 1..=steps.num_steps {
        progress(step - 1, steps.num_steps)?;
        loss_gradient(features, width, &mut gram, &mut gradient);
        Adam::default().step(step, steps.lr, features, &gradient, 1.0, &mut moments);
    }
    features.par_chunks_mut(width).for_each(|row| rescale(row, 1.0));
    Ok(())
}

/// `4 Σ_{j≠i} (g_i·g_j) g_j + 4n (‖g_i‖² − 1) g_i`. The first sum is `G (GᵀG)` without its own term: n·width² multiplications in
/// the place of n²·width.
fn loss_gradient(features: &[f32], width: usize, gram: &mut [f32], gradient: &mut [f32]) {
    let n = features.len() / width;
    let all = Matrix::new(features, n, width, width);
    matmul_over(&mut MatrixMut::new(gram, width, width, width), 1.0, all.t(), all, true);
    matmul_over(&mut MatrixMut::new(gradient, n, width, width), 1.0, all, Matrix::new(gram, width, width, width), true);
    gradient.par_chunks_mut(width).zip(features.par_chunks(width)).for_each(|(gradient, feature)| {
        let square = sum_of_squares(feature);
        let own = (n as f64 * (square - 1.0) - square) as f32;
        gradient.iter_mut().zip(feature).for_each(|(g, x)| *g = 4.0 * (*g + own * x));
    });
}

#[cfg(test)]
mod tests {
    use super::loss_gradient;
    use mediant_tensor::random::{fill_normal, stream};

    const N: usize = 7;
    const WIDTH: usize = 5;

    fn loss(features: &[f64]) -> f64 {
        let row = |i: usize| &features[i * WIDTH..(i + 1) * WIDTH];
        let dot = |i, j| row(i).iter().zip(row(j)).map(|(a, b)| a * b).sum::<f64>();
        let pairs = (0..N).flat_map(|i| (0..N).map(move |j| (i, j)));
        pairs.map(|(i, j)| if i == j { N as f64 * (dot(i, i) - 1.0).powi(2) } else { dot(i, j).powi(2) }).sum()
    }

    #[test]
    fn the_gradient_is_that_of_the_loss() {
        let mut features = vec![0.0f32; N * WIDTH];
        fill_normal(&mut stream(0, "test"), &mut features, 0.0, 0.5);
        let (mut gram, mut gradient) = (vec![0.0; WIDTH * WIDTH], vec![0.0; N * WIDTH]);
        loss_gradient(&features, WIDTH, &mut gram, &mut gradient);
        let features: Vec<f64> = features.iter().map(|x| f64::from(*x)).collect();
        for i in 0..features.len() {
            let at = |shift: f64| {
                let mut moved = features.clone();
                moved[i] += shift;
                loss(&moved)
            };
            // Central differences of a quartic: off by the third derivative times h² = 1e-8.
            let expected = (at(1e-4) - at(-1e-4)) / 2e-4;
            assert!((f64::from(gradient[i]) - expected).abs() < 1e-4 * expected.abs().max(1.0), "{i}");
        }
    }
}
