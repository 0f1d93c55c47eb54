//! When which norm is frozen, and whether that can be.

use std::str::FromStr;

use mediant_artifact::{ModelFacts, NormFacts};
use mediant_engine::Problems;
use mediant_lm::train::{Group, RemovalSchedule};
use mediant_lm::{BlockNorm, NormSite, name_glob};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Config;
use crate::finetuning::Preset;

/// When each kind of norm is frozen. What is absent comes from `preset`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScheduleOptions {
    /// The norms before the MLPs.
    #[serde(skip_serializing_if = "Option::is_none")]
    ln2: Option<GroupOptions>,
    /// The norms before attention, as queries and keys read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    ln1_qk: Option<GroupOptions>,
    /// The same, as values read them.
    #[serde(skip_serializing_if = "Option::is_none")]
    ln1_v: Option<GroupOptions>,
    /// Steps before the last norm is frozen.
    #[serde(skip_serializing_if = "Option::is_none")]
    ln_final: Option<u64>,
}

/// When the norms of one kind are frozen.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct GroupOptions {
    /// Steps before that of the first layer is frozen; at least 1.
    start: u64,
    /// Steps between two layers; 0 freezes all at once.
    gap: u64,
}

impl ScheduleOptions {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The options that are there.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("schedule.ln2", self.ln2.is_some()),
            ("schedule.ln1_qk", self.ln1_qk.is_some()),
            ("schedule.ln1_v", self.ln1_v.is_some()),
            ("schedule.ln_final", self.ln_final.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(option, _)| option).collect()
    }

    fn schedule(&self, preset: Preset, layers: usize, steps: u64) -> RemovalSchedule {
        let of = |start, gap| Group { start, gap };
        let published = |ln2, ln1_qk, ln1_v, ln_final| RemovalSchedule { ln2, ln1_qk, ln1_v, ln_final };
        let base = match preset {
            Preset::Scaled => RemovalSchedule::scaled(layers, steps),
            Preset::Gpt2Small => published(of(20, 2), of(44, 2), of(68, 3), 104),
            Preset::Gpt2Medium => published(of(20, 2), of(68, 2), of(116, 3), 188),
            Preset::Gpt2Large => published(of(30, 4), of(174, 4), of(318, 6), 534),
            Preset::Gpt2Xl => published(of(50, 4), of(242, 4), of(434, 6), 722),
        };
        let group = |own: Option<GroupOptions>, base| own.map_or(base, |own| of(own.start, own.gap));
        RemovalSchedule {
            ln2: group(self.ln2, base.ln2),
            ln1_qk: group(self.ln1_qk, base.ln1_qk),
            ln1_v: group(self.ln1_v, base.ln1_v),
            ln_final: self.ln_final.unwrap_or(base.ln_final),
        }
    }
}

/// The norms that are frozen, and after how many steps each is.
pub(super) fn plan(config: &Config, model: &ModelFacts, steps: u64) -> Result<Vec<(NormSite, u64)>, Problems> {
    if model.hooks.iter().any(|hook| hook.name.ends_with("ln1_post.hook_scale")) {
        let why = format!(
            "this {} model has a norm after each part too: what it computes depends on what attention and MLP write, not on the \
             residual stream, and no method removes it",
            model.architecture
        );
        return Err(Problems::input("model", why));
    }
    if let Some((layers, _)) = config.preset.published().filter(|(layers, _)| *layers != model.n_layers) {
        let why = format!("is for a model of {layers} layers; this one has {}", model.n_layers);
        return Err(Problems::config("preset", why).help("`scaled` fits the schedule to the model"));
    }
    let sites = chosen(config, model)?;
    if let Some(option) =
        config.schedule.given().into_iter().find(|given| sites.iter().all(|site| option_of(*site) != *given))
    {
        let message = "none of these norms is among those that are frozen";
        return Err(Problems::config(option, message).help("leave it out, or name them in `sites`"));
    }
    let schedule = config.schedule.schedule(config.preset, model.n_layers, steps);
    let planned: Vec<_> = sites.into_iter().map(|site| (site, schedule.step(site))).collect();
    match planned.iter().find(|(_, step)| !(1..steps).contains(step)) {
        Some((site, step)) => {
            let message = format!(
                "`{site}` would be frozen after step {step}; that must lie after the first step and before the last, which is {steps}"
            );
            Err(Problems::config(option_of(*site), message).help("a longer training, or a schedule of your own"))
        }
        None => Ok(planned),
    }
}

/// The option that says when a norm is frozen.
fn option_of(site: NormSite) -> &'static str {
    match site {
        NormSite::Final => "schedule.ln_final",
        NormSite::Block(_, BlockNorm::Mlp) => "schedule.ln2",
        NormSite::Block(_, BlockNorm::QueryKey) => "schedule.ln1_qk",
        NormSite::Block(_, BlockNorm::Value) => "schedule.ln1_v",
    }
}

/// The live norms that `sites` names.
fn chosen(config: &Config, model: &ModelFacts) -> Result<Vec<NormSite>, Problems> {
    let frozen: Vec<NormSite> = match &model.norms {
        NormFacts::PartlyFrozen(names) => names.iter().filter_map(|name| NormSite::from_str(name).ok()).collect(),
        NormFacts::Frozen | NormFacts::Absent => {
            return Err(Problems::input("model", "the norms of this model are frozen already"));
        }
        NormFacts::Live => Vec::new(),
    };
    let blocks = (0..model.n_layers).flat_map(|layer| BlockNorm::ALL.map(|norm| NormSite::Block(layer, norm)));
    let all: Vec<NormSite> = blocks.chain([NormSite::Final]).collect();
    let Some(patterns) = &config.sites else {
        return Ok(all.into_iter().filter(|site| !frozen.contains(site)).collect());
    };
    let mut problems = Problems::none();
    let mut chosen = vec![false; all.len()];
    for (index, pattern) in patterns.iter().enumerate() {
        let problem = |message: String| Problems::config(format!("sites[{index}]"), message);
        match name_glob(pattern) {
            Err(error) => problems.push(problem(error.to_string())),
            Ok(matches) => {
                let named: Vec<usize> = (0..all.len()).filter(|i| matches(&all[*i].to_string())).collect();
                if named.is_empty() {
                    let problem = problem(format!("this model of {} layers has no norm `{pattern}`", model.n_layers));
                    problems.push(problem.help("`blocks.0.ln1.qk`, `blocks.0.ln1.v`, `blocks.0.ln2`, `ln_final`"));
                } else if named.iter().all(|i| frozen.contains(&all[*i])) {
                    problems.push(problem(format!("`{pattern}` names norms that are frozen already")));
                }
                named.into_iter().for_each(|i| chosen[i] = !frozen.contains(&all[i]));
            }
        }
    }
    problems.finish()?;
    Ok(all.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|(site, _)| site).collect())
}
