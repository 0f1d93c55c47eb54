//! What stages check of the autoencoders that are connected with them.

use mediant_artifact::{Artifact, DictionaryFacts, DictionaryMeta, Digest, ModelFacts};
use mediant_dict::Sae;
use mediant_engine::{Problems, StageError};
use mediant_lm::HookPoint;
use mediant_spec::did_you_mean;

/// Whether the model has the hook point that an autoencoder at this port reads, with as many numbers. Heads count as one
/// vector, one beside the other, as SAELens takes `hook_z`.
pub(crate) fn check_sae(port: &str, sae: &DictionaryFacts, model: &ModelFacts) -> Result<(), Problems> {
    let Some(hook) = model.hook(&sae.hook) else {
        let problem = Problems::input(port, format!("it reads `{}`, which the model does not have", sae.hook));
        return Err(match did_you_mean(&sae.hook, model.hooks.iter().map(|hook| hook.name.as_str())) {
            Some(near) => problem.help(format!("the model has `{near}`")),
            None => problem,
        });
    };
    if hook.width() != sae.d_in || hook.name.parse().is_ok_and(HookPoint::per_key) {
        let message =
            format!("it reads vectors of {}, the model's `{}` has shape {:?}", sae.d_in, sae.hook, hook.shape);
        return Err(Problems::input(port, message));
    }
    Ok(())
}

/// An autoencoder with the hook point that it reads and writes.
pub(crate) fn read_sae(artifact: &Artifact) -> Result<(Sae, DictionaryMeta, HookPoint), StageError> {
    let (sae, meta) = mediant_dict::artifact::read(artifact)?;
    if let Some(out) = &meta.hook_out {
        let why = format!("the dictionary is a transcoder from `{}` to `{out}`, not an autoencoder", meta.hook);
        return Err(StageError::new(why));
    }
    let hook = meta.hook.parse()?;
    Ok((sae, meta, hook))
}

/// What is said of an autoencoder that is used with another model than its own.
pub(crate) fn foreign(meta: &DictionaryMeta, model: Digest) -> Option<&'static str> {
    // One that was loaded may not say; it is taken at its word that it is of this model.
    let other = meta.model.is_some_and(|own| own != model);
    other.then_some("the autoencoder was trained on another model than the one it is used with")
}
