//! Effects on their way to disk, and the scores that come of them.

use std::collections::BTreeMap;

use mediant_artifact::{
    ArtifactWriter, Contrast, Digest, Effect, EffectsMeta, EffectsWriter, Example, Mediator, ScoreRow, ScoresMeta,
    write_scores,
};
use rayon::prelude::*;

use crate::bootstrap::{DRAWS, draws, quantile};
use crate::{Error, Metric, Result};

/// What effects are about, besides their examples and mediators.
#[derive(Clone, Debug)]
pub struct About {
    /// The method: the stage's name.
    pub method: &'static str,
    /// What is measured.
    pub metric: Metric,
    /// How effects become scores.
    pub contrast: Contrast,
    /// Name of the counterfactual.
    pub counterfactual: Option<String>,
    /// Digest of the model.
    pub model: Digest,
    /// Digest of the prompts.
    pub prompts: Digest,
    /// Reference point, sign, steps, windows, ...: whatever another run needs to be comparable.
    pub settings: BTreeMap<String, String>,
    /// Of the bootstrap.
    pub seed: u64,
}

/// The setting of scores, effects and answers that names the model that was searched in, by its digest.
pub const SEARCHED_IN: &str = "searched_in";

/// The setting that names the prompts of the search.
pub const SEARCHED_ON: &str = "searched_on";

/// Takes effects as they come: writes them, and sums them by group.
pub struct Recorder {
    writer: EffectsWriter,
    about: About,
    examples: u64,
    mediators: Vec<Mediator>,
    group_of: Vec<usize>,
    groups: usize,
    /// Sums by mediator and group.
    sums: Vec<Sums>,
    /// Forward passes over a prompt.
    passes: f64,
}

/// Numerator, denominator, number of effects.
#[derive(Clone, Copy, Default)]
struct Sums(f64, f64, u64);

impl Recorder {
    /// For these examples and mediators. Examples of one task and group are alike.
    ///
    /// # Errors
    /// If the artifact cannot be begun.
    pub fn new(artifact: ArtifactWriter, about: About, examples: &[Example], mediators: Vec<Mediator>) -> Result<Self> {
        let mut known = BTreeMap::new();
        let group_of = examples.iter().map(|example| {
            let next = known.len();
            *known.entry((example.task.as_str(), example.group.as_str())).or_insert(next)
        });
        let group_of: Vec<usize> = group_of.collect();
        let groups = known.len();
        Ok(Self {
            writer: EffectsWriter::new(artifact, examples, &mediators)?,
            about,
            examples: examples.len() as u64,
            sums: vec![Sums::default(); mediators.len() * groups],
            mediators,
            group_of,
            groups,
            passes: 0.0,
        })
    }

    /// Takes the effect of a mediator on each of some neighbouring examples, from `first` on. `clean` and `patched` have one
    /// value an example, `counterfactual` too or none at all.
    ///
    /// # Errors
    /// [`Error::Data`] for a counterfactual that the contrast needs and that is not there, and if writing fails.
    pub fn record(
        &mut self,
        mediator: usize,
        first: u32,
        clean: &[f64],
        counterfactual: Option<&[f64]>,
        patched: &[f64],
    ) -> Result<()> {
        self.record_where(mediator, first, clean, counterfactual, patched, |_| true)
    }

    /// [`Recorder::record`] of those examples that `reached` says the mediator is in.
    ///
    /// # Errors
    /// As there.
    pub fn record_where(
        &mut self,
        mediator: usize,
        first: u32,
        clean: &[f64],
        counterfactual: Option<&[f64]>,
        patched: &[f64],
        reached: impl Fn(usize) -> bool,
    ) -> Result<()> {
        let missing = || Error::Data(format!("{} needs a counterfactual", self.about.contrast.formula()));
        for (index, (&clean, &patched)) in clean.iter().zip(patched).enumerate() {
            let example = first + index as u32;
            if !reached(example as usize) {
                continue;
            }
            let counterfactual = counterfactual.map(|values| values[index]);
            let (above, below) = match self.about.contrast {
                Contrast::Restored => {
                    let counterfactual = counterfactual.ok_or_else(missing)?;
                    (patched - counterfactual, clean - counterfactual)
                }
                Contrast::Lost => (clean - patched, clean - counterfactual.ok_or_else(missing)?),
                Contrast::LostOfClean => (clean - patched, clean),
                Contrast::Share | Contrast::Truth => (patched, clean),
                Contrast::Mean => (patched, 1.0),
                Contrast::Mask => return Err(Error::Data("a mask is trained, not measured".to_owned())),
            };
            let sums = &mut self.sums[mediator * self.groups + self.group_of[example as usize]];
            *sums = Sums(sums.0 + above, sums.1 + below, sums.2 + 1);
            self.writer.push(Effect { example, mediator: mediator as u32, clean, counterfactual, patched })?;
        }
        Ok(())
    }

    /// Of the bootstrap, and of whatever a method draws.
    pub fn seed(&self) -> u64 {
        self.about.seed
    }

    /// Counts forward passes: so many prompts through such a share of the model.
    pub fn count(&mut self, prompts: usize, share: f64) {
        self.passes += prompts as f64 * share;
    }

    /// Writes what is left, and the scores: mean numerator over mean denominator, with the 95 percent interval of a bootstrap
    /// over groups.
    ///
    /// # Errors
    /// [`Error::Data`] if nothing was recorded, and if writing fails.
    pub fn finish(self, scores: ArtifactWriter) -> Result<Vec<ScoreRow>> {
        let rows = self.scores();
        if rows.is_empty() {
            return Err(Error::Data("no prompt has any of the positions that are chosen".to_owned()));
        }
        let About { method, metric, contrast, counterfactual, model, prompts, settings, seed } = self.about;
        // Passes over all prompts, as the field counts them.
        let passes = self.passes / self.examples as f64;
        let meta = EffectsMeta {
            method: method.to_owned(),
            metric: metric.name().to_owned(),
            unit: metric.unit().to_owned(),
            contrast,
            counterfactual: counterfactual.clone(),
            model,
            prompts,
            passes,
            settings: settings.clone(),
            examples: self.examples,
            mediators: self.mediators.len() as u64,
            effects: self.writer.effects(),
        };
        self.writer.finish(meta)?;
        let meta = ScoresMeta {
            method: method.to_owned(),
            metric: metric.name().to_owned(),
            unit: metric.unit().to_owned(),
            contrast,
            counterfactual,
            passes,
            settings,
            seed,
            scores: rows.len() as u64,
        };
        write_scores(scores, meta, &rows)?;
        Ok(rows)
    }

    /// Scores of the mediators that have effects.
    fn scores(&self) -> Vec<ScoreRow> {
        let draws = (self.groups > 1).then(|| draws(self.groups, self.about.seed));
        let contrast = self.about.contrast;
        let of_mediator = self.mediators.par_iter().zip(self.sums.par_chunks(self.groups.max(1)));
        let row = |(mediator, sums): (&Mediator, &[Sums])| {
            let total = sums.iter().fold(Sums::default(), |a, b| Sums(a.0 + b.0, a.1 + b.1, a.2 + b.2));
            if total.2 == 0 {
                return None;
            }
            let interval = draws.as_ref().and_then(|draws| interval(sums, draws, contrast));
            let n = total.2 as f64;
            Some(ScoreRow {
                mediator: mediator.clone(),
                value: contrast.score(total.0, total.1),
                numerator: total.0 / n,
                denominator: total.1 / n,
                n: total.2,
                low: interval.map(|(low, _)| low),
                high: interval.map(|(_, high)| high),
            })
        };
        of_mediator.filter_map(row).collect()
    }
}

/// The central 95 percent of the ratio over draws of groups.
fn interval(sums: &[Sums], draws: &[Vec<usize>], contrast: Contrast) -> Option<(f64, f64)> {
    let ratio = |draw: &Vec<usize>| {
        let (above, below) = draw.iter().fold((0.0, 0.0), |(a, b), &group| (a + sums[group].0, b + sums[group].1));
        contrast.score(above, below)
    };
    let mut values: Vec<f64> = draws.iter().map(ratio).filter(|value| !value.is_nan()).collect();
    debug_assert!(values.len() <= DRAWS);
    values.sort_by(f64::total_cmp);
    Some((quantile(&values, 0.025)?, quantile(&values, 0.975)?))
}
