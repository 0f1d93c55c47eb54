//! What a training begins from.

use mediant_artifact::DictionaryFacts;
use mediant_dict::{BDecInit, TrainConfig};
use mediant_engine::{InputFacts, Problems};

/// Whether the dictionary at `start` can begin the training of the dictionary `wanted`.
pub(super) fn check_start(config: &TrainConfig, wanted: &DictionaryFacts, inputs: &InputFacts) -> Result<(), Problems> {
    if inputs.many("start").is_empty() {
        return Ok(());
    }
    let mut problems = Problems::none();
    let sae = &config.sae;
    let given = "does nothing when the parameters are those of `start`";
    if sae.b_dec_init != BDecInit::default() {
        problems.push(Problems::config("sae.b_dec_init", given).help("leave it out"));
    }
    if sae.decoder_init_norm.is_some() {
        problems.push(Problems::config("sae.decoder_init_norm", given).help("leave it out"));
    }
    if sae.encoder_init_norm.is_some() {
        problems.push(Problems::config("sae.encoder_init_norm", given).help("leave it out"));
    }
    if sae.jumprelu_init_threshold.is_some() {
        problems.push(Problems::config("sae.jumprelu_init_threshold", given).help("leave it out"));
    }
    let Some(start) = inputs.dictionary("start") else { return problems.finish() };
    if start.architecture != wanted.architecture {
        let message = format!("it is a `{}` dictionary, and a `{}` is needed", start.architecture, wanted.architecture);
        problems.push(Problems::input("start", message));
    }
    if start.input_norm != wanted.input_norm {
        let name = |norm: &Option<String>| norm.clone().unwrap_or_else(|| "none".to_owned());
        let (own, other) = (name(&start.input_norm), name(&wanted.input_norm));
        let message = format!("its vectors are normalised one by one by `{own}`, those of this training by `{other}`");
        problems.push(Problems::input("start", message).help("change `sae.normalize_activations`"));
    }
    let own = shape(start);
    let other = shape(wanted);
    if own != other {
        problems.push(Problems::input("start", format!("it is {own}, the training is of {other}")));
    }
    problems.finish()
}

/// In words.
fn shape(facts: &DictionaryFacts) -> String {
    let (d_in, d_sae) = (facts.d_in, facts.d_sae);
    match &facts.hook_out {
        None => format!("an autoencoder of vectors of {d_in} with {d_sae} latents"),
        Some(out) => format!("a transcoder of vectors of {d_in} to vectors of {} with {d_sae} latents", out.width()),
    }
}
