use super::Gathered;

/// The mean of some vectors less that of others: its length, and the direction it points in (Marks & Tegmark 2023,
/// arXiv:2310.06824). None where the means do not differ, or there are no vectors of one kind.
pub fn direction_of_means<'a>(
    of: impl Iterator<Item = &'a [f32]>,
    less: impl Iterator<Item = &'a [f32]>,
) -> Option<(f64, Vec<f32>)> {
    let (of, less) = (mean(of)?, mean(less)?);
    let difference: Vec<f64> = of.iter().zip(&less).map(|(a, b)| a - b).collect();
    let length = difference.iter().map(|x| x * x).sum::<f64>().sqrt();
    // What is left of equal means by rounding of f32 activations is no direction.
    let size = of.iter().chain(&less).map(|x| x * x).sum::<f64>().sqrt();
    let points = length > 1e-6 * size && length.is_finite();
    points.then(|| (length, difference.into_iter().map(|x| (x / length) as f32).collect()))
}

fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>) -> Option<Vec<f64>> {
    let (mut sum, mut count) = (Vec::new(), 0u64);
    for vector in vectors {
        sum.resize(vector.len(), 0.0);
        sum.iter_mut().zip(vector).for_each(|(sum, x): (&mut f64, _)| *sum += f64::from(*x));
        count += 1;
    }
    (count > 0).then(|| sum.into_iter().map(|sum| sum / count as f64).collect())
}

impl Gathered {
    /// The vectors of the prompts for which `holds`.
    pub fn of_prompts<'a>(&'a self, holds: impl Fn(usize) -> bool + 'a) -> impl Iterator<Item = &'a [f32]> {
        self.vectors().zip(&self.prompts).filter(move |(_, prompt)| holds(**prompt as usize)).map(|(vector, _)| vector)
    }
}
