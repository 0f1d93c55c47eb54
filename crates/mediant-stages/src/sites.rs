//! The options that choose where in a model subspaces are, and what the stages that find subspaces do alike.

use std::collections::BTreeMap;

use mediant_artifact::{
    DirectionRow, DirectionsFacts, DirectionsMeta, Facts, HookFact, Kind, ModelFacts, SearchFacts, SubspaceFact,
    write_directions,
};
use mediant_engine::{InputFacts, Output, Problems, RunContext, StageError};
use mediant_lm::{HookPoint, Positions};
use mediant_methods::subspace::Site;
use mediant_spec::did_you_mean;

use crate::masked::DIRECTIONS;
use crate::model_input::choose_hooks;
use crate::prompts_input::{check_positions, check_reach, check_span};

/// Hook points and the positions at each of them: those of an option, or those of each of some spans alone.
#[derive(Clone, Copy)]
pub(crate) struct Sites<'a> {
    pub(crate) hooks: &'a [String],
    pub(crate) positions: Option<&'a Positions>,
    pub(crate) spans: Option<&'a [String]>,
}

impl Sites<'_> {
    /// Whether the options by themselves mean something.
    pub(crate) fn check(self) -> Problems {
        let mut problems = self.check_positions();
        if self.hooks.is_empty() {
            problems.push(Problems::config("hooks", "no hook point is listed"));
        }
        problems
    }

    /// The same, of hook points that are chosen otherwise.
    pub(crate) fn check_positions(self) -> Problems {
        let mut problems = Problems::none();
        match (self.positions, self.spans) {
            (None, None) => problems.push(
                Problems::config("", "no positions are chosen")
                    .help("set `spans: [last]` for a subspace at each of these spans, or `positions`"),
            ),
            (Some(_), Some(_)) => {
                problems.push(Problems::config("positions", "`spans` chooses positions already").help("remove one"));
            }
            (None, Some([])) => problems.push(Problems::config("spans", "no span is listed")),
            (None, Some(spans)) => {
                for (i, span) in spans.iter().enumerate().filter(|(i, span)| spans[..*i].contains(span)) {
                    problems.push(Problems::config(format!("spans[{i}]"), format!("`{span}` is listed twice")));
                }
            }
            (Some(_), None) => {}
        }
        problems
    }

    /// Whether the model has the hook points, they are vectors, and the prompts have the positions.
    pub(crate) fn check_inputs(self, inputs: &InputFacts) -> Problems {
        let mut problems = self.check_prompts(inputs);
        if let Some(model) = inputs.model("model") {
            problems.check(self.vectors(model).map(drop));
        }
        problems
    }

    /// Whether the prompts have the positions.
    pub(crate) fn check_prompts(self, inputs: &InputFacts) -> Problems {
        let mut problems = Problems::none();
        if let Some(positions) = self.positions {
            problems.check(check_positions("positions", positions, inputs));
            problems.check(check_reach("positions", positions, inputs));
        }
        for (i, span) in self.spans.unwrap_or_default().iter().enumerate() {
            problems.check(check_span(&format!("spans[{i}]"), span, inputs));
        }
        problems
    }

    /// The hook points, which are vectors at a position.
    pub(crate) fn vectors(self, model: &ModelFacts) -> Result<Vec<HookFact>, Problems> {
        let hooks = choose_hooks("hooks", self.hooks, model)?;
        let mut problems = Problems::none();
        for hook in &hooks {
            if let Some(why) = no_vector(hook) {
                problems.push(Problems::config("hooks", format!("`{}` {why}", hook.name)));
                break;
            }
        }
        problems.finish()?;
        Ok(hooks)
    }

    /// Whether a rank, the value of `field`, is above the width of a hook point.
    pub(crate) fn check_rank(self, field: &str, rank: usize, inputs: &InputFacts) -> Result<(), Problems> {
        if rank == 0 {
            return Err(Problems::config(field, "a rank is at least 1"));
        }
        let Some(Ok(hooks)) = inputs.model("model").map(|model| self.vectors(model)) else { return Ok(()) };
        match hooks.iter().find(|hook| hook.width() < rank) {
            Some(hook) => {
                let message = format!("`{}` has {} numbers, and no subspace of rank {rank}", hook.name, hook.width());
                Err(Problems::config(field, message))
            }
            None => Ok(()),
        }
    }

    fn positions(self) -> Vec<Positions> {
        match (self.spans, self.positions) {
            (Some(spans), _) => spans.iter().map(|span| Positions::Span(span.clone())).collect(),
            (None, Some(positions)) => vec![positions.clone()],
            (None, None) => Vec::new(),
        }
    }

    /// The sites, by hook point in the order of the forward pass, then as listed.
    pub(crate) fn sites(self, model: &ModelFacts) -> Result<Vec<Site>, StageError> {
        let hooks = self.vectors(model).map_err(|_| StageError::new("the model lacks a hook point"))?;
        let mut sites = Vec::new();
        for hook in hooks {
            sites.extend(self.at(hook.name.parse()?));
        }
        Ok(sites)
    }

    /// The sites at a hook point.
    pub(crate) fn at(self, point: HookPoint) -> impl Iterator<Item = Site> {
        self.positions().into_iter().map(move |positions| Site { point, positions })
    }

    /// What is known of a subspace of each of these ranks at each site, found by a method with labels that are shuffled or not, or without any.
    pub(crate) fn facts(
        self,
        nested: bool,
        ranks: &[Option<usize>],
        (method, shuffled): (&str, Option<bool>),
        inputs: &InputFacts,
    ) -> Facts {
        let hooks = inputs.model("model").and_then(|model| self.vectors(model).ok());
        let subspaces = hooks.map(|hooks| {
            let mut all = Vec::new();
            for hook in hooks {
                for positions in self.positions() {
                    let positions = positions_json(&positions);
                    let of_rank = |rank: &Option<usize>| SubspaceFact {
                        hook: hook.clone(),
                        positions: positions.clone(),
                        rank: *rank,
                    };
                    all.extend(ranks.iter().map(of_rank));
                }
            }
            all
        });
        let search = SearchFacts { mediator: DIRECTIONS.to_owned(), method: method.to_owned(), shuffled };
        Facts::Directions(DirectionsFacts { nested: Some(nested), subspaces, search: Some(search) })
    }
}

/// Why an activation is no vector at a position; none if it is.
fn no_vector(hook: &HookFact) -> Option<&'static str> {
    if hook.name.ends_with("hook_scale") {
        return Some("is a norm's scale, one number a position: no vector");
    }
    if hook.name.parse().is_ok_and(HookPoint::per_key) {
        return Some("has a number a key, as many as a prompt is long: no vector");
    }
    (hook.shape.len() > 1)
        .then_some("has heads, a vector each; take one without, such as `hook_resid_post` or `hook_attn_out`")
}

/// Positions as directions keep them.
pub(crate) fn positions_json(positions: &Positions) -> String {
    // A value without maps of other keys than words is JSON.
    serde_json::to_string(positions).unwrap_or_default()
}

/// Whether prompts have this causal variable, which `variable` names.
pub(crate) fn check_variable(name: &str, inputs: &InputFacts) -> Result<(), Problems> {
    let Some(known) = inputs.prompts("prompts").and_then(|prompts| prompts.variables.as_ref()) else { return Ok(()) };
    if known.iter().any(|known| known == name) {
        return Ok(());
    }
    let problem = Problems::config("variable", format!("the prompts have no variable `{name}`"));
    Err(match did_you_mean(name, known.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => problem,
        None => problem.help(format!("there are {}", known.join(", "))),
    })
}

/// The output of a stage that finds subspaces.
pub(crate) fn directions_output() -> Output {
    Output::new("directions", Kind::Directions, "A row a vector: hook point, positions, rank, place in its subspace.")
}

/// The rows of one subspace.
pub(crate) fn rows_of(site: &Site, vectors: &[Vec<f32>], value: impl Fn(usize) -> Option<f64>) -> Vec<DirectionRow> {
    let row = |(index, vector): (usize, &Vec<f32>)| DirectionRow {
        hook: site.point.to_string(),
        positions: positions_json(&site.positions),
        rank: vectors.len() as u32,
        index: index as u32,
        value: value(index),
        vector: vector.clone(),
    };
    vectors.iter().enumerate().map(row).collect()
}

/// What is said of directions, besides what `meta` says already.
pub(crate) fn write_subspaces<C>(
    cx: &RunContext<'_, C>,
    meta: DirectionsMeta,
    settings: impl IntoIterator<Item = (&'static str, String)>,
    rows: &[DirectionRow],
) -> Result<(), StageError> {
    let settings: BTreeMap<String, String> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let meta = DirectionsMeta {
        model: Some(cx.input_digest("model")?),
        prompts: Some(cx.input_digest("prompts")?),
        settings,
        ..meta
    };
    write_directions(cx.output("directions")?, meta, rows)?;
    Ok(())
}

/// How far the passes of a run come that read the activations of both versions at all sites.
pub(crate) fn both_versions(sites: &[Site], layers: usize) -> f64 {
    2.0 * sites.iter().map(|site| site.depth(layers)).fold(0.0, f64::max)
}
