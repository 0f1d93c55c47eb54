//! What a set does on text that has nothing to do with the behaviour: how well the model predicts it when the set's items are replaced by
//! their means over the text.

use std::collections::BTreeMap;

use mediant_artifact::Tokens;
use mediant_lm::{Batch, HookPoint, Hooks, Model, Site, batch_losses, batch_of, batches, predicted};
use mediant_tensor::{Compute, Tensor};

use super::ItemSet;
use super::family::{Family, Parts, Spliced};
use super::latent_means::LatentMeans;
use super::latents::{Decoded, LatentSet, flat};
use super::means::Means;
use super::patched::Others;
use crate::sweep::Activations;
use crate::{Error, Result};

/// Losses in nats of the [`predicted`] tokens of a text, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct OffTarget {
    /// Of the model as it is.
    pub clean: Vec<f32>,
    /// With the set's items replaced.
    pub ablated: Vec<f32>,
}

/// Mean ablation of a set of a family's items at every position of a text. The means are taken over all positions from which a token is
/// predicted that counts, in the pass that gives the losses of the model as it is; a second pass has the items replaced, and everything
/// else, of the family or not, computes as usual from what reaches it. Of edges, the receiver reads the mean of what the sender writes. Of
/// latents it is x − Σ f_k d_k + mean(Σ f_k d_k), with the error in the sums if it is in the set.
///
/// Beside the losses, memory is that of a batch. `progress` hears how many tokens of how many are done, over both passes.
///
/// # Errors
/// [`Error::Data`] if no token of the text is predicted and counts, and whatever the passes give.
pub fn off_target<C: Compute, E: From<Error>>(
    model: &Model<C>,
    tokens: &Tokens,
    family: &Family,
    set: &ItemSet,
    mut progress: impl FnMut(u64, u64) -> Result<(), E>,
) -> Result<OffTarget, E> {
    if predicted(tokens, 0..tokens.len()).next().is_none() {
        return Err(Error::Data("no token of the text is predicted and counts".to_owned()).into());
    }
    let text = Text { model, family, latents: chosen_latents(family, set), kept: set.complement() };
    let total = 2 * tokens.meta.tokens;
    let mut means = Means::default();
    let mut losses = OffTarget { clean: Vec::new(), ablated: Vec::new() };
    for range in batches(tokens, model.config(), text.numbers_kept()) {
        let batch = batch_of(model, tokens, range.clone()).map_err(Error::from)?;
        let mut read = Activations::new();
        let mut take = |point, x| {
            read.insert(point, x);
            Ok(())
        };
        let hooks = Hooks::none().read(text.points(), &mut take);
        losses.clean.extend(batch_losses(model, tokens, range.clone(), &batch, hooks).map_err(Error::from)?);
        let start = tokens.offsets[range.start];
        let rows: Vec<usize> = predicted(tokens, range.clone()).map(|(token, _)| token - 1 - start).collect();
        text.add(&mut means, &read, &rows)?;
        progress(tokens.offsets[range.end] as u64, total)?;
    }
    let means = means.finish(&model.device());
    for range in batches(tokens, model.config(), text.numbers_kept()) {
        let batch = batch_of(model, tokens, range.clone()).map_err(Error::from)?;
        let pass = |hooks: Hooks<'_, C>| Ok(batch_losses(model, tokens, range.clone(), &batch, hooks)?);
        losses.ablated.extend(text.ablated(&means, &batch, pass)?);
        progress(tokens.meta.tokens + tokens.offsets[range.end] as u64, total)?;
    }
    Ok(losses)
}

/// A set of a family of latents.
fn chosen_latents<'a>(family: &'a Family, set: &ItemSet) -> Option<(&'a Spliced, LatentSet)> {
    let Parts::Latents(spliced, latents) = &family.parts else { return None };
    Some((spliced, LatentSet::new(spliced, latents, set)))
}

/// What the passes over a text need to know.
struct Text<'a, C: Compute> {
    model: &'a Model<C>,
    family: &'a Family,
    /// The set that is replaced, of a family of latents.
    latents: Option<(&'a Spliced, LatentSet)>,
    /// All others.
    kept: ItemSet,
}

impl<C: Compute> Text<'_, C> {
    /// Where means are taken.
    fn points(&self) -> impl Iterator<Item = HookPoint> {
        let positions = (self.adds_positions()).then_some(HookPoint::PosEmbed);
        self.family.points(self.model.config()).into_iter().chain(positions)
    }

    /// Whether streams are read to which position embeddings are added.
    fn adds_positions(&self) -> bool {
        matches!(self.family.parts, Parts::Edges(..)) && self.model.config().has_hook(HookPoint::PosEmbed)
    }

    /// Numbers a token that a pass leaves in memory.
    fn numbers_kept(&self) -> usize {
        let config = self.model.config();
        let read: usize = self.points().map(|point| point.shape(config, 1).iter().product::<usize>()).sum();
        match &self.family.parts {
            // What every node writes, and what every head's queries, keys and values read.
            Parts::Edges(graph, _) => read + (graph.nodes.len() + 3 * config.n_heads) * config.d_model,
            Parts::Nodes(_) | Parts::Latents(..) => read,
        }
    }

    /// Adds what was read at some rows of a batch.
    fn add(&self, means: &mut Means, read: &Activations<C>, rows: &[usize]) -> Result<()> {
        if let Some((spliced, set)) = &self.latents {
            let decoded = Decoded::of_run(spliced, read)?;
            means.add(spliced.writes, decoded.shape, &decoded.part(spliced, set), rows);
            return Ok(());
        }
        for (point, x) in read {
            means.add(*point, x.dims(), &flat(x)?, rows);
        }
        Ok(())
    }

    /// Makes a pass over a batch with the set's items replaced.
    fn ablated<T>(
        &self,
        means: &Activations<C>,
        batch: &Batch<C>,
        pass: impl FnOnce(Hooks<'_, C>) -> Result<T>,
    ) -> Result<T> {
        let Some((spliced, set)) = &self.latents else {
            let others = Others::Means(self.at_rows(means, batch)?);
            return self.family.patched(self.model, &self.kept, &others, pass);
        };
        let mean = means.get(&spliced.writes).cloned();
        let mean = mean.ok_or_else(|| Error::Data(format!("no pass came to `{}`", spliced.writes)))?;
        pass(LatentMeans::new(spliced, set, mean).hooks())
    }

    /// The means as a pass over a batch needs them. Position embeddings are nobody's and are there as usual: streams have those of the
    /// batch in the place of their mean.
    fn at_rows(&self, means: &Activations<C>, batch: &Batch<C>) -> Result<Activations<C>> {
        let mut own: Option<Tensor<C, 3>> = None;
        if self.adds_positions() {
            let mut take = |_, x| {
                own = Some(x);
                Ok(())
            };
            self.model.read(batch, Hooks::none().read([HookPoint::PosEmbed], &mut take))?;
        }
        let more = own.zip(means.get(&HookPoint::PosEmbed)).map(|(own, mean)| own - mean.clone());
        let at_rows = |(point, mean): (&HookPoint, &Tensor<C, 3>)| {
            let stream = matches!(point.site(), Some(Site::ResidPre | Site::ResidMid | Site::ResidPost));
            let mean = match &more {
                _ if !stream => mean.clone(),
                Some(more) => mean.clone() + more.clone(),
                None => mean.clone().expand([batch.rows(), 1, mean.dims()[2]]),
            };
            (*point, mean)
        };
        Ok(means.iter().map(at_rows).collect::<BTreeMap<_, _>>())
    }
}
