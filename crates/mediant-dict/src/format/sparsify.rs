//! EleutherAI's sparsify (`SparseCoder`): `cfg.json` and `sae.safetensors` with encoder.weight `[d_sae, d_in]`, encoder.bias,
//! W_dec `[d_sae, d_in]`, b_dec, and of a transcoder with a skip connection W_skip `[d_in, d_in]`.
//!
//! It computes `relu((x − b_dec) encoder.weightᵀ + encoder.bias)`, keeps the k largest, and decodes with W_dec and b_dec. A
//! transcoder (`transcode`) takes x as it is and adds `x W_skipᵀ`; what it writes is as wide as what it reads.

use std::borrow::Cow;
use std::path::Path;

use serde_json::json;

use super::foreign::{Foreign, Writes};
use super::json::Config;
use super::layout::{Further, Layout, Matrix};
use super::{Format, safetensors, write};
use crate::{Activation, Error, InputNorm, Result, Sae};

const CONFIG: &str = "cfg.json";
pub(super) const WEIGHTS: &str = "sae.safetensors";

/// Fields of `cfg.json` that change nothing of how a trained coder computes.
const OF_TRAINING: [&str; 5] =
    ["expansion_factor", "normalize_decoder", "multi_topk", "lookup_max_order", "gram_table_hash"];

/// Fields that say what a transcoder is.
const OF_TRANSCODERS: [&str; 2] = ["transcode", "skip_connection"];

/// Fields that change it in ways that are not built.
const NOT_BUILT: [(&str, &str); 3] = [
    ("embed_skip", "a skip connection from the embedding"),
    ("gram_lookup", "a table of n-grams"),
    ("signed", "latents of either sign"),
];

pub(super) fn open(folder: &Path) -> Result<Foreign> {
    let config = Config::read(&folder.join(CONFIG))?;
    let file = safetensors::open(&folder.join(WEIGHTS))?;
    for (field, what) in NOT_BUILT {
        if config.flag(field, false)? {
            return Err(config.error(format!("`{field}: true` makes {what}, which is not built")));
        }
    }
    match config.text("activation")?.unwrap_or("topk") {
        "topk" => {}
        other => return Err(config.error(format!("`activation: {other}` is not built, only topk"))),
    }
    let known = |field: &&String| {
        ["activation", "k", "d_in", "num_latents"].contains(&field.as_str())
            || OF_TRANSCODERS.contains(&field.as_str())
            || OF_TRAINING.contains(&field.as_str())
            || NOT_BUILT.iter().any(|(name, _)| name == field)
    };
    if let Some(field) = config.fields.keys().find(|field| !known(field)) {
        return Err(config.error(format!("`{}` is not a field that is known", field.escape_debug())));
    }
    let (transcodes, skips) = (config.flag("transcode", false)?, config.flag("skip_connection", false)?);
    if skips && !transcodes {
        return Err(config.error("`skip_connection: true` without `transcode` lets the input skip an autoencoder"));
    }
    let layout = Layout {
        w_enc: Matrix::Rows("encoder.weight"),
        b_enc: "encoder.bias",
        w_dec: Matrix::Rows("W_dec"),
        b_dec: "b_dec",
        extra: Further::None,
        w_skip: skips.then_some("W_skip"),
    };
    file.only(&layout.names(), "a sparse coder of sparsify")?;
    let (_, d_sae) = layout.w_enc.sizes(&file)?;
    // 0 stands for a multiple of d_in.
    match config.get("num_latents").map(|_| config.count("num_latents")).transpose()? {
        Some(latents) if latents != 0 && latents != d_sae => {
            return Err(config.error(format!("says {latents} latents, and the weights have {d_sae}")));
        }
        _ => {}
    }
    let d_in = config.count("d_in")?;
    Ok(Foreign {
        format: Format::Sparsify,
        activation: Activation::TopK { k: config.count("k")?, rescale_acts_by_decoder_norm: false },
        apply_b_dec_to_input: !transcodes,
        input_norm: InputNorm::None,
        d_in,
        d_out: d_in,
        d_sae,
        hook: None,
        writes: if transcodes { Writes::Another(None) } else { Writes::WhatItReads },
        said: config.fields,
        file,
        layout,
    })
}

/// Writes a top-k dictionary into a folder that exists; what it writes is as wide as what it reads.
///
/// # Errors
/// When it is of another kind, or a file cannot be written.
pub(crate) fn save(sae: &Sae, transcodes: bool, folder: &Path) -> Result<()> {
    let plain = write::plain_topk(sae)?;
    let sae = write::subtracting_b_dec(&plain, !transcodes)?;
    let weights = sae.weights();
    let Activation::TopK { k, .. } = sae.activation() else {
        return Err(Error::Data("sparsify holds top-k dictionaries alone".to_owned()));
    };
    let unit = weights.decoder_norms().iter().all(|norm| (norm - 1.0).abs() < 1e-3);
    let config = json!({
        "activation": "topk",
        "expansion_factor": weights.d_sae.div_ceil(weights.d_in),
        "normalize_decoder": unit,
        "num_latents": weights.d_sae,
        "k": k,
        "multi_topk": false,
        "skip_connection": weights.w_skip.is_some(),
        "transcode": transcodes,
        "d_in": weights.d_in,
    });
    let path = folder.join(CONFIG);
    std::fs::write(&path, config.to_string()).map_err(Error::io(&path))?;
    let (matrix, latents, input) = (vec![weights.d_sae, weights.d_in], vec![weights.d_sae], vec![weights.d_in]);
    let mut tensors = vec![
        ("encoder.weight", matrix.clone(), Cow::Borrowed(&weights.w_enc[..])),
        ("encoder.bias", latents, Cow::Borrowed(&weights.b_enc[..])),
        ("W_dec", matrix, Cow::Borrowed(&weights.w_dec[..])),
        ("b_dec", input, Cow::Borrowed(&weights.b_dec[..])),
    ];
    let square = vec![weights.d_in, weights.d_in];
    tensors.extend(weights.w_skip.as_deref().map(|w_skip| ("W_skip", square, Cow::Borrowed(w_skip))));
    write::safetensors(&folder.join(WEIGHTS), &tensors)
}
