//! Which features a trained mask chooses.

use std::collections::BTreeMap;

use mediant_artifact::{Contrast, HookFact, ScoreRow, ScoresMeta, read_scores};
use mediant_engine::{RunContext, StageError};
use mediant_lm::Positions;
use mediant_methods::subspace::Site;

use super::Config;
use crate::masked::FeaturesAt;
use crate::measuring::Measuring;
use crate::sae_input::{Dictionary, foreign, read_dictionary};
use crate::searched::check_same_dictionary;
use crate::subspaces::read_subspaces;

/// From here on a feature is chosen: σ(0).
const CHOSEN: f64 = 0.5;

/// Some features, and which of how many a mask chooses.
pub(super) struct Masked {
    pub(super) features: FeaturesAt,
    pub(super) chosen: Vec<usize>,
    pub(super) of: usize,
    /// Numbers of the activation that they are features of.
    pub(super) width: usize,
}

/// What the mask at the port `mask` chooses, site by site.
pub(super) fn chosen(
    cx: &RunContext<'_, Config>,
    run: &Measuring<'_, Config>,
) -> Result<(ScoresMeta, Vec<Masked>), StageError> {
    let (meta, rows) = read_scores(&cx.input("mask")?)?;
    if meta.contrast != Contrast::Mask {
        let method = &meta.method;
        return Err(StageError::new(format!(
            "input `mask`: these are scores of `{method}`; `train_mask` trains masks"
        )));
    }
    let values: BTreeMap<&str, f64> = rows.iter().map(|row| (row.mediator.name.as_str(), row.value)).collect();
    let mut masks = Vec::new();
    for features in features(cx, run, &meta, &rows)? {
        let hook = features.site.point.to_string();
        let width = run.facts.hook(&hook).map(HookFact::width);
        let width = width.ok_or_else(|| StageError::new(format!("input `mask`: the model has no `{hook}`")))?;
        let of = features.featuriser.features(width)?;
        let value = |unit: usize| {
            let name = features.mediator(unit).name;
            let missing = || StageError::new(format!("input `mask`: it says nothing of `{name}`"));
            values.get(name.as_str()).copied().ok_or_else(missing)
        };
        let mut chosen = Vec::new();
        for unit in 0..of {
            if value(unit)? > CHOSEN {
                chosen.push(unit);
            }
        }
        masks.push(Masked { features, chosen, of, width });
    }
    let known: usize = masks.iter().map(|mask| mask.of).sum();
    if known != rows.len() {
        let scored = rows.len();
        return Err(StageError::new(format!("input `mask`: it is of {scored} features, and there are {known}")));
    }
    Ok((meta, masks))
}

/// What the mask was trained over.
fn features(
    cx: &RunContext<'_, Config>,
    run: &Measuring<'_, Config>,
    meta: &ScoresMeta,
    rows: &[ScoreRow],
) -> Result<Vec<FeaturesAt>, StageError> {
    let kind = rows.first().map_or("", |row| row.mediator.kind.as_str());
    match (kind, cx.optional("directions")?, cx.optional("sae")?) {
        ("dimension", None, None) => Ok(sites(meta, rows)?.into_iter().map(FeaturesAt::dimensions).collect()),
        ("direction", Some(artifact), None) => {
            Ok(read_subspaces(&artifact, &run.facts)?.1.into_iter().map(FeaturesAt::of_subspace).collect())
        }
        ("latent", None, Some(artifact)) => {
            check_same_dictionary(cx, &meta.settings)?;
            let Dictionary { sae, meta: of_sae, hook, .. } = read_dictionary(&artifact)?;
            if let Some(note) = foreign(&of_sae, cx.input_digest("model")?) {
                cx.note(note);
            }
            let sites = sites(meta, rows)?;
            if let Some(other) = sites.iter().find(|site| site.point != hook) {
                return Err(StageError::new(format!("the mask is at `{}`, the autoencoder at `{hook}`", other.point)));
            }
            Ok(sites.into_iter().map(|site| FeaturesAt::latents(site, sae.clone())).collect())
        }
        _ => {
            let needs = match kind {
                "dimension" => "dimensions of the activations: it needs neither `directions` nor an `sae`",
                "direction" => "directions: connect those that it was trained over at `directions`, and no `sae`",
                "latent" => "latents: connect the autoencoder that it was trained over at `sae`, and no `directions`",
                _ => "nothing that can be exchanged",
            };
            Err(StageError::new(format!("the mask is over {needs}")))
        }
    }
}

/// Where the mask is, in the order of its scores.
fn sites(meta: &ScoresMeta, rows: &[ScoreRow]) -> Result<Vec<Site>, StageError> {
    let mut sites: Vec<Site> = Vec::new();
    for row in rows {
        let hook = row.mediator.hook.as_deref().unwrap_or_default();
        let positions = match (&row.mediator.span, meta.settings.get("positions")) {
            (Some(span), _) => Positions::Span(span.clone()),
            (None, Some(positions)) => serde_json::from_str(positions)
                .map_err(|_| StageError::new(format!("the mask is at {positions}, which are no positions")))?,
            (None, None) => return Err(StageError::new("the mask does not say at which positions it is")),
        };
        let site = Site { point: hook.parse()?, positions };
        if sites.last() != Some(&site) && !sites.contains(&site) {
            sites.push(site);
        }
    }
    Ok(sites)
}
