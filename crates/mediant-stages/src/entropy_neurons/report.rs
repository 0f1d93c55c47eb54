//! What `entropy_neurons` found, as metrics and tables.

use mediant_artifact::{MetricRow, write_metrics};
use mediant_engine::{RunContext, StageError};
use mediant_methods::bootstrap::Estimate;
use mediant_methods::entropy_neurons::{Candidate, Change, Effects, Measure};

use super::{CANDIDATES_KEPT, Config, Subject};
use crate::columns::Columns;
use crate::named::{metric, tags};

/// The parts of a change, in the order of [`Change`].
const PARTS: [&str; 3] = ["total", "direct", "through_scale"];

#[derive(Default)]
pub(super) struct Report {
    seed: u64,
    split: String,
    metrics: Vec<MetricRow>,
    effects: Vec<EffectRow>,
    candidates: Vec<CandidateRow>,
    profile: Vec<ProfileRow>,
}

struct EffectRow {
    model: String,
    planted: bool,
    neurons: String,
    measure: Measure,
    part: usize,
    n: u64,
    change: Change,
}

struct CandidateRow {
    model: String,
    planted: bool,
    place: usize,
    candidate: Candidate,
    chosen: bool,
}

struct ProfileRow {
    model: String,
    planted: bool,
    neuron: usize,
    /// Over the largest.
    values: Vec<f64>,
    cos2: Vec<f64>,
}

impl Report {
    /// Of what was measured on this split.
    pub(super) fn new(seed: u64, split: &str) -> Self {
        Self { seed, split: split.to_owned(), ..Self::default() }
    }

    /// The first neurons of a list that falls, and those that are chosen wherever they are.
    pub(super) fn candidates(&mut self, model: &str, planted: bool, all: &[Candidate], chosen: &[usize]) {
        let rows = all.iter().enumerate().map(|(place, candidate)| CandidateRow {
            model: model.to_owned(),
            planted,
            place: place + 1,
            candidate: *candidate,
            chosen: chosen.contains(&candidate.neuron),
        });
        self.candidates.extend(rows.filter(|row| row.place <= CANDIDATES_KEPT || row.chosen));
    }

    fn metric(&mut self, subject: &Subject<'_>, neurons: &str, row: MetricRow) {
        let planted = if subject.planted { "true" } else { "" };
        self.metrics.push(MetricRow {
            split: Some(self.split.clone()),
            tags: tags([("model", subject.model), ("planted", planted), ("neurons", neurons)]),
            ..row
        });
    }

    /// The effects of ablating each of some sets of neurons. The answer is whether any set changes entropy more through the scale than
    /// directly.
    pub(super) fn effects(&mut self, subject: &Subject<'_>, sets: &[Vec<usize>], effects: &Effects) -> bool {
        let mut through_scale = false;
        let (n, seed) = (effects.predictions(), self.seed);
        for measure in Measure::ALL {
            let name = measure.name();
            self.metric(subject, "", metric(name, "nats", n, effects.before(measure, seed), seed));
            for (set, change) in sets.iter().zip(effects.changes(measure, seed)) {
                let [_, direct, scale] = change.size.map(|size| size.value);
                through_scale |= measure == Measure::Entropy && scale > direct;
                let neurons = set.iter().map(usize::to_string).collect::<Vec<_>>().join("+");
                self.metric(subject, &neurons, metric(&format!("{name}_change"), "percent", n, change.relative, seed));
                for (part, mean) in PARTS.into_iter().zip(change.mean) {
                    self.metric(subject, &neurons, metric(&format!("{name}_{part}"), "nats", n, mean, seed));
                }
                self.effects.extend((0..PARTS.len()).map(|part| EffectRow {
                    model: subject.model.to_owned(),
                    planted: subject.planted,
                    neurons: neurons.clone(),
                    measure,
                    part,
                    n,
                    change: change.clone(),
                }));
            }
        }
        through_scale
    }

    /// Where a neuron writes.
    pub(super) fn profile(&mut self, subject: &Subject<'_>, neuron: usize) {
        let cos2 = subject.layer.profile(neuron, &subject.spectrum);
        let mass = cos2.iter().rev().take(subject.null).sum();
        let mass = Estimate { value: mass, interval: None };
        let row = metric("null_mass", "1", cos2.len() as u64, mass, self.seed);
        self.metric(subject, &neuron.to_string(), row);
        let largest = subject.spectrum.values[0];
        self.profile.push(ProfileRow {
            model: subject.model.to_owned(),
            planted: subject.planted,
            neuron,
            values: subject.spectrum.values.iter().map(|value| value / largest).collect(),
            cos2,
        });
    }

    pub(super) fn write(self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        write_metrics(cx.output("metrics")?, &self.metrics)?;
        effect_columns(&self.effects).write(
            cx.output("effects")?,
            "Ablation of neurons",
            "Changes of loss and entropy, in all, directly and through the scale of the last norm",
        )?;
        let rows = &self.candidates;
        Columns::default()
            .text("model", rows.iter().map(|row| &row.model))
            .flag("planted", rows.iter().map(|row| row.planted))
            .count("place", rows.iter().map(|row| row.place as u64))
            .count("neuron", rows.iter().map(|row| row.candidate.neuron as u64))
            .number("norm", rows.iter().map(|row| row.candidate.norm))
            .number("logit_var", rows.iter().map(|row| row.candidate.logit_var))
            .number("ratio", rows.iter().map(|row| row.candidate.ratio()))
            .flag("chosen", rows.iter().map(|row| row.chosen))
            .write(
                cx.output("candidates")?,
                "Candidates",
                "Neurons of the last MLP that write much and move all logits alike",
            )?;
        profile_columns(&self.profile).write(
            cx.output("profile")?,
            "What neurons write where",
            "Squared cosines of what a neuron writes with the singular directions of the unembedding",
        )
    }
}

fn effect_columns(rows: &[EffectRow]) -> Columns {
    // What is told of the total alone.
    let of_total = |of: fn(&Change) -> f64| rows.iter().map(move |row| (row.part == 0).then(|| of(&row.change)));
    Columns::default()
        .text("model", rows.iter().map(|row| &row.model))
        .flag("planted", rows.iter().map(|row| row.planted))
        .text("neurons", rows.iter().map(|row| &row.neurons))
        .text("measure", rows.iter().map(|row| row.measure.name()))
        .text("part", rows.iter().map(|row| PARTS[row.part]))
        .count("n", rows.iter().map(|row| row.n))
        .estimate("mean", rows.iter().map(|row| Some(row.change.mean[row.part])))
        .estimate("size", rows.iter().map(|row| Some(row.change.size[row.part])))
        .optional_number("relative", of_total(|change| change.relative.value))
        .optional_number("size_q25", of_total(|change| change.quartiles[0]))
        .optional_number("size_median", of_total(|change| change.quartiles[1]))
        .optional_number("size_q75", of_total(|change| change.quartiles[2]))
}

fn profile_columns(rows: &[ProfileRow]) -> Columns {
    let all = rows.iter().flat_map(|row| (0..row.cos2.len()).map(move |direction| (row, direction)));
    let sums = rows.iter().flat_map(|row| {
        row.cos2.iter().scan(0.0, |sum, cos2| {
            *sum += cos2;
            Some(*sum)
        })
    });
    Columns::default()
        .text("model", all.clone().map(|(row, _)| &row.model))
        .flag("planted", all.clone().map(|(row, _)| row.planted))
        .count("neuron", all.clone().map(|(row, _)| row.neuron as u64))
        .count("direction", all.clone().map(|(_, direction)| direction as u64 + 1))
        .number("singular_value", all.clone().map(|(row, direction)| row.values[direction]))
        .number("cos2", all.clone().map(|(row, direction)| row.cos2[direction]))
        .number("cumulative", sums)
}
