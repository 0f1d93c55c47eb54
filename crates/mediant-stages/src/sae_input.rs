//! What stages check of the autoencoders that are connected with them.

use mediant_artifact::{Artifact, DictionaryFacts, DictionaryMeta, Digest, ModelFacts};
use mediant_dict::Sae;
use mediant_engine::{Problems, StageError};
use mediant_lm::HookPoint;
use mediant_spec::did_you_mean;

/// Whether the model has the hook points that a dictionary at this port reads and writes, with as many numbers. Heads count as
/// one vector, one beside the other, as SAELens takes `hook_z`.
pub(crate) fn check_dictionary(port: &str, sae: &DictionaryFacts, model: &ModelFacts) -> Result<(), Problems> {
    check_hook(port, "reads", (&sae.hook, sae.d_in), model)?;
    sae.hook_out.as_ref().map_or(Ok(()), |out| check_hook(port, "writes", (&out.name, out.width()), model))
}

fn check_hook(port: &str, verb: &str, (name, width): (&str, usize), model: &ModelFacts) -> Result<(), Problems> {
    let Some(hook) = model.hook(name) else {
        let problem = Problems::input(port, format!("it {verb} `{name}`, which the model does not have"));
        return Err(match did_you_mean(name, model.hooks.iter().map(|hook| hook.name.as_str())) {
            Some(near) => problem.help(format!("the model has `{near}`")),
            None => problem,
        });
    };
    if hook.width() != width || hook.name.parse().is_ok_and(HookPoint::per_key) {
        let message = format!("it {verb} vectors of {width}, the model's `{name}` has shape {:?}", hook.shape);
        return Err(Problems::input(port, message));
    }
    Ok(())
}

/// Where the directions of a dictionary's latents are: the hook point that it writes, with its width.
pub(crate) fn written(sae: &DictionaryFacts) -> (&str, usize) {
    sae.hook_out.as_ref().map_or((&sae.hook, sae.d_in), |out| (&out.name, out.width()))
}

/// A dictionary of a model's activations.
pub(crate) struct Dictionary {
    pub(crate) sae: Sae,
    pub(crate) meta: DictionaryMeta,
    /// The hook point that it reads.
    pub(crate) hook: HookPoint,
    /// The hook point that it writes, of an autoencoder the same.
    pub(crate) out: HookPoint,
}

pub(crate) fn read_dictionary(artifact: &Artifact) -> Result<Dictionary, StageError> {
    let (sae, meta) = mediant_dict::artifact::read(artifact)?;
    let hook = meta.hook.parse()?;
    let out = meta.hook_out.as_ref().map_or(Ok(hook), |out| out.parse())?;
    Ok(Dictionary { sae, meta, hook, out })
}

/// What is said of a dictionary that is used with another model than its own.
pub(crate) fn foreign(meta: &DictionaryMeta, model: Digest) -> Option<&'static str> {
    // One that was loaded may not say; it is taken at its word that it is of this model.
    let other = meta.model.is_some_and(|own| own != model);
    other.then_some("the dictionary was trained on another model than the one it is used with")
}
