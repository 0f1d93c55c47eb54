//! What a wiring computes, variable by variable, without a model.

use super::wiring::{Head, Layer, Neuron, Score, Var, Wiring};

/// The residual stream after a run: by position and direction.
pub(crate) struct Stream(Vec<Vec<f64>>);

impl Wiring {
    /// Runs on a prompt of words, BOS before them.
    pub(crate) fn run(&self, words: &[usize]) -> Stream {
        let mut stream = vec![vec![0.0; self.width()]; words.len() + 1];
        stream[0][self.offset(self.bos)] = 1.0;
        for (row, word) in stream[1..].iter_mut().zip(words) {
            row[self.offset(self.token) + word] = 1.0;
        }
        for (at, row) in stream.iter_mut().enumerate() {
            row[self.offset(self.position) + at] = 1.0;
        }
        for Layer { heads, neurons } in &self.layers {
            let before = stream.clone();
            for head in heads.iter().flatten() {
                (0..stream.len()).for_each(|query| self.attend(head, &before[..=query], &mut stream[query]));
            }
            stream.iter_mut().for_each(|row| self.activate(neurons, row));
        }
        Stream(stream)
    }

    /// Attention of the last of some rows to all of them.
    fn attend(&self, head: &Head, rows: &[Vec<f64>], to: &mut [f64]) {
        let Some(query) = rows.last() else { return };
        let scores: Vec<f64> =
            rows.iter().map(|key| head.scores.iter().map(|s| self.score(s, query, key)).sum()).collect();
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
        let total: f64 = weights.iter().sum();
        for (row, weight) in rows.iter().zip(&weights) {
            for (value, there) in self.values(head.value, row) {
                if let Some(written) = head.table[value] {
                    to[self.offset(head.write) + written] += there * weight / total;
                }
            }
        }
    }

    fn score(&self, score: &Score, query: &[f64], key: &[f64]) -> f64 {
        let row = |q: usize| self.values(score.key, key).map(|(k, there)| score.nats[q][k] * there).sum::<f64>();
        match score.query {
            None => row(0),
            Some(var) => self.values(var, query).map(|(q, there)| there * row(q)).sum(),
        }
    }

    fn activate(&self, neurons: &[Neuron], row: &mut [f64]) {
        let mut added = vec![0.0; row.len()];
        for neuron in neurons {
            let read: f64 = neuron.reads.iter().map(|(var, i, weight)| row[self.offset(*var) + i] * weight).sum();
            let hidden = (read + neuron.bias).max(0.0);
            neuron.writes.iter().for_each(|(var, i, weight)| added[self.offset(*var) + i] += hidden * weight);
        }
        row.iter_mut().zip(added).for_each(|(x, added)| *x += added);
    }

    /// The values of a variable that are there, with how much.
    fn values<'r>(&self, var: Var, row: &'r [f64]) -> impl Iterator<Item = (usize, f64)> + 'r {
        let from = self.offset(var);
        row[from..from + self.size(var)].iter().copied().enumerate().filter(|(_, there)| *there != 0.0)
    }

    /// The word that is answered.
    pub(crate) fn answer(&self, stream: &Stream) -> Option<usize> {
        let last = stream.0.last()?;
        let best = self.values(self.answer, last).max_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(self.answers[best.0])
    }

    /// Whether a variable differs between two runs at some position: by more than what attention lets through of what it is not
    /// looking for.
    pub(crate) fn differs(&self, var: Var, a: &Stream, b: &Stream) -> bool {
        const NOTHING: f64 = 1e-3;
        let columns = self.offset(var)..self.offset(var) + self.size(var);
        a.0.iter().zip(&b.0).any(|(a, b)| columns.clone().any(|i| (a[i] - b[i]).abs() > NOTHING))
    }
}
