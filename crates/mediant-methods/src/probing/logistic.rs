//! Logistic regression with an L2 penalty, by Newton's method in f64.

/// Weights and bias of a linear classifier: positive where `w · x + b` is above 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// One weight a feature.
    pub weights: Vec<f64>,
    /// The bias.
    pub bias: f64,
}

impl Classifier {
    /// The logit.
    pub fn score(&self, x: &[f64]) -> f64 {
        self.bias + self.weights.iter().zip(x).map(|(w, x)| w * x).sum::<f64>()
    }
}

/// Newton steps, at most; it takes about ten.
const STEPS: usize = 200;

/// The minimum of ½ ‖w‖² + C Σ log(1 + e^(−y (w · x + b))), y = ±1: what scikit-learn's `LogisticRegression(C)` minimises.
/// The bias has no penalty. `x` is `[rows, width]`. All examples must not be of one class.
pub fn fit(x: &[f64], positive: &[bool], c: f64) -> Classifier {
    let width = if positive.is_empty() { 0 } else { x.len() / positive.len() };
    let problem = Problem { x, positive, c, width };
    let mut at = vec![0.0; width + 1];
    let mut value = problem.value(&at);
    for _ in 0..STEPS {
        let (gradient, mut hessian) = problem.derivatives(&at);
        let step = solve(&mut hessian, &gradient);
        let slope: f64 = gradient.iter().zip(&step).map(|(g, s)| g * s).sum();
        // Twice what the step would gain if the function were its own parabola.
        if slope <= 1e-14 * (1.0 + value.abs()) {
            break;
        }
        let mut length = 1.0;
        let (next, lower) = loop {
            let next: Vec<f64> = at.iter().zip(&step).map(|(at, step)| at - length * step).collect();
            let lower = problem.value(&next);
            if lower <= value - 0.25 * length * slope || length < 1e-10 {
                break (next, lower);
            }
            length *= 0.5;
        };
        if lower >= value {
            break;
        }
        (at, value) = (next, lower);
    }
    let bias = at.pop().unwrap_or_default();
    Classifier { weights: at, bias }
}

struct Problem<'x> {
    x: &'x [f64],
    positive: &'x [bool],
    c: f64,
    width: usize,
}

impl Problem<'_> {
    /// Each example with a 1 for the bias, and its logit.
    fn examples<'a>(&'a self, at: &'a [f64]) -> impl Iterator<Item = (&'a [f64], bool, f64)> {
        let rows = (0..self.positive.len()).map(|row| &self.x[row * self.width..(row + 1) * self.width]);
        rows.zip(self.positive).map(move |(x, positive)| {
            let logit = at[self.width] + x.iter().zip(at).map(|(x, w)| x * w).sum::<f64>();
            (x, *positive, logit)
        })
    }

    fn value(&self, at: &[f64]) -> f64 {
        let loss = self.examples(at).map(|(_, positive, logit)| {
            let margin = if positive { logit } else { -logit };
            // log(1 + e^−m) without overflow.
            (-margin).max(0.0) + (-margin.abs()).exp().ln_1p()
        });
        let penalty: f64 = at[..self.width].iter().map(|w| w * w).sum();
        0.5 * penalty + self.c * loss.sum::<f64>()
    }

    /// Gradient, and the Hessian by rows.
    fn derivatives(&self, at: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let n = self.width + 1;
        let (mut gradient, mut hessian) = (at.to_vec(), vec![0.0; n * n]);
        gradient[self.width] = 0.0;
        (0..self.width).for_each(|i| hessian[i * n + i] = 1.0);
        // Where all probabilities are 0 or 1 nothing holds the bias.
        hessian[n * n - 1] = 1e-12;
        for (x, positive, logit) in self.examples(at) {
            let p = 1.0 / (1.0 + (-logit).exp());
            let (residual, curvature) = (self.c * (p - f64::from(u8::from(positive))), self.c * p * (1.0 - p));
            let of = |i: usize| x.get(i).copied().unwrap_or(1.0);
            for i in 0..n {
                gradient[i] += residual * of(i);
                (0..=i).for_each(|j| hessian[i * n + j] += curvature * of(i) * of(j));
            }
        }
        (gradient, hessian)
    }
}

/// The solution of a positive definite system, of which the lower triangle is given and is overwritten (Cholesky).
fn solve(matrix: &mut [f64], right: &[f64]) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| matrix[i * n + k] * matrix[j * n + k]).sum();
            let rest = matrix[i * n + j] - known;
            matrix[i * n + j] = if i == j { rest.max(f64::MIN_POSITIVE).sqrt() } else { rest / matrix[j * n + j] };
        }
    }
    let mut solution = right.to_vec();
    for i in 0..n {
        let known: f64 = (0..i).map(|k| matrix[i * n + k] * solution[k]).sum();
        solution[i] = (solution[i] - known) / matrix[i * n + i];
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|k| matrix[k * n + i] * solution[k]).sum();
        solution[i] = (solution[i] - known) / matrix[i * n + i];
    }
    solution
}

#[cfg(test)]
mod tests {
    use super::{Classifier, fit, solve};
    use mediant_tensor::random::{fill_normal, stream, unit_f64};

    /// A minimum of a convex function is where the gradient is 0; here by the formula, example by example.
    fn gradient(at: &Classifier, x: &[f64], positive: &[bool], c: f64) -> Vec<f64> {
        let width = at.weights.len();
        let mut gradient = at.weights.clone();
        gradient.push(0.0);
        for (x, positive) in x.chunks(width).zip(positive) {
            let y = if *positive { 1.0 } else { -1.0 };
            let pull = -c * y / (1.0 + (y * at.score(x)).exp());
            (0..width).for_each(|i| gradient[i] += pull * x[i]);
            gradient[width] += pull;
        }
        gradient
    }

    #[test]
    fn the_gradient_is_zero_where_it_ends() {
        let (rows, width) = (200, 5);
        let mut noise = vec![0f32; rows * width];
        fill_normal(&mut stream(0, "test"), &mut noise, 0.5, 2.0);
        let mut draws = stream(1, "test");
        for (scale, c) in [(1.0, 1.0), (1000.0, 1.0), (0.01, 10.0)] {
            let x: Vec<f64> = noise.iter().map(|x| scale * f64::from(*x)).collect();
            let noisy: Vec<bool> =
                x.chunks(width).map(|x| x[0] - x[1] + scale * (unit_f64(&mut draws) - 0.5) * 4.0 > 0.0).collect();
            // The second can be told apart without an error: only the penalty keeps the weights finite.
            let separable: Vec<bool> = x.chunks(width).map(|x| x[2] > 0.3 * scale).collect();
            for positive in [noisy, separable] {
                let found = fit(&x, &positive, c);
                let largest = gradient(&found, &x, &positive, c).into_iter().fold(0.0, |a: f64, g| a.max(g.abs()));
                assert!(largest < 1e-5 * scale.max(1.0), "{scale}: {largest}");
            }
        }
    }

    #[test]
    fn one_dimension_against_a_grid() {
        let x = [-2.0, -1.0, 0.5, -0.5, 1.0, 3.0];
        let positive = [false, false, false, true, true, true];
        let found = fit(&x, &positive, 1.0);
        let value = |w: f64, b: f64| {
            let loss =
                x.iter().zip(positive).map(|(x, y)| (1.0 + (-(w * x + b) * if y { 1.0 } else { -1.0 }).exp()).ln());
            0.5 * w * w + loss.sum::<f64>()
        };
        let best = value(found.weights[0], found.bias);
        for i in -200..=200 {
            for j in -200..=200 {
                assert!(best <= value(f64::from(i) / 50.0, f64::from(j) / 50.0));
            }
        }
    }

    #[test]
    fn a_system_is_solved() {
        let mut matrix = [4.0, 0.0, 0.0, 2.0, 5.0, 0.0, 1.0, 3.0, 6.0];
        let solution = solve(&mut matrix, &[9.0, 17.0, 25.0]);
        let expected = |row: [f64; 3]| row.iter().zip(&solution).map(|(a, x)| a * x).sum::<f64>();
        for (row, right) in [([4.0, 2.0, 1.0], 9.0), ([2.0, 5.0, 3.0], 17.0), ([1.0, 3.0, 6.0], 25.0)] {
            assert!((expected(row) - right).abs() < 1e-12);
        }
    }
}
