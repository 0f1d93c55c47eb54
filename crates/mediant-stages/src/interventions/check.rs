//! What can be known of interventions to be wrong before anything runs.

use mediant_artifact::{HookFact, ModelFacts};
use mediant_engine::{InputFacts, Problems};
use mediant_lm::{HookPoint, Positions, Site};

use super::{Action, ErrorTerm, Intervention, Spliced};
use crate::direction::check_latent;
use crate::model_input::hooks_like;
use crate::prompts_input;

/// What a stage does with interventions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scene {
    /// Texts grow, and what is known of them stays in a cache.
    pub(crate) growing: bool,
    /// Texts are the prompts that are connected, with named spans and counterfactuals.
    pub(crate) prompts: bool,
    /// Logits come whole, so that they can be changed.
    pub(crate) logits: bool,
    /// No text is longer, where it is known.
    pub(crate) context: Option<usize>,
    /// The last hook point whose activation counts; the model's answer if none.
    pub(crate) last: Option<HookPoint>,
}

/// Whether these interventions mean something for the model and what else is connected.
pub(crate) fn check(list: &[Intervention], inputs: &InputFacts, scene: Scene) -> Result<(), Problems> {
    let mut problems = Problems::none();
    let unused = |port: &str, uses: fn(&Action) -> bool| {
        !inputs.many(port).is_empty() && !list.iter().any(|item| uses(&item.action))
    };
    if unused("activations", Action::uses_activations) {
        let unused = Problems::input("activations", "no intervention uses activations");
        problems.push(unused.help("`mean`, `mean_by_position` and `resample` do"));
    }
    if unused("dictionary", Action::uses_dictionary) {
        let unused = Problems::input("dictionary", "no intervention uses a dictionary");
        problems.push(unused.help("`splice` and the direction of a `latent` do"));
    }
    let first_change = inputs.model("model").and_then(|model| first_change(list, model));
    for (i, item) in list.iter().enumerate() {
        let item = Item { field: format!("interventions[{i}]"), item, inputs, scene };
        problems.check(item.check_alone());
        if let Some(model) = inputs.model("model") {
            problems.check(item.check_model(model, first_change));
        }
    }
    problems.finish()
}

/// The first hook point that anything but a frozen scale changes.
fn first_change(list: &[Intervention], model: &ModelFacts) -> Option<HookPoint> {
    let changes = list.iter().filter(|item| !matches!(item.action, Action::FreezeScale));
    let hooks = changes.flat_map(|item| hooks_like("", &item.at, model).unwrap_or_default());
    hooks.filter_map(|hook| hook.name.parse().ok()).min()
}

struct Item<'a> {
    field: String,
    item: &'a Intervention,
    inputs: &'a InputFacts,
    scene: Scene,
}

impl Item<'_> {
    fn problem(&self, option: &str, message: impl Into<String>) -> Problems {
        Problems::config(self.option(option), message)
    }

    fn option(&self, option: &str) -> String {
        format!("{}.{option}", self.field)
    }

    /// What is wrong whatever the model.
    fn check_alone(&self) -> Result<(), Problems> {
        let mut problems = Problems::none();
        let Intervention { action, positions, heads, neurons, seed, .. } = self.item;
        let name = action.name();
        problems.check(self.check_positions("positions", positions));
        for (option, list, may) in [("heads", heads, action.by_head()), ("neurons", neurons, action.by_neuron())] {
            match list {
                Some(_) if !may => problems.push(self.problem(option, format!("`{name}` cannot be limited to these"))),
                Some(list) if list.is_empty() => problems.push(self.problem(option, "nothing is listed")),
                _ => {}
            }
        }
        if seed.is_some() && !action.draws() {
            problems.push(self.problem("seed", format!("`{name}` draws nothing")));
        }
        match action {
            Action::Noise(spread) if !(spread.std.is_finite() && spread.std > 0.0) => {
                problems.push(self.problem("do.noise.std", "must be above 0"));
            }
            Action::Add(add) if !add.strength.is_finite() || add.strength == 0.0 => {
                problems.push(self.problem("do.add.strength", "must be a number other than 0"));
            }
            Action::Splice(Spliced { error: ErrorTerm::Keep, zero_latents }) if zero_latents.is_empty() => {
                let nothing = "reconstruction and error together are the activation: nothing is changed";
                problems.push(self.problem("do.splice.error", nothing).help("list `zero_latents`, or `error: drop`"));
            }
            Action::KnockOut(knock_out) => {
                problems.check(self.check_positions("do.knock_out.keys", &knock_out.keys));
                problems.check(self.check_keys(&knock_out.keys));
            }
            Action::Patch if !self.scene.prompts => {
                let problem = self.problem("do", "there is no counterfactual to patch from: only prompts have them");
                problems.push(problem.help("stage `intervene` makes interventions on prompts"));
            }
            Action::FreezeScale if self.scene.growing => {
                let why = "a text that grows under interventions has no pass without them to take scales from";
                problems.push(self.problem("do", why));
            }
            _ => {}
        }
        if action.uses_activations() && self.inputs.many("activations").is_empty() {
            let problem = self.problem("do", format!("`{name}` takes activations, and none are connected"));
            problems.push(problem.help("connect an output of `cache_activations` to the input `activations`"));
        }
        problems.finish()
    }

    fn check_positions(&self, option: &str, positions: &Positions) -> Result<(), Problems> {
        if self.scene.prompts {
            prompts_input::check_positions(&self.option(option), positions, self.inputs)?;
        } else if let Some(span) = positions.span() {
            let problem = self.problem(option, format!("there is no span `{span}`: only prompts have spans"));
            return Err(problem.help("stage `intervene` makes interventions on prompts"));
        }
        if self.scene.growing && positions.counts_from_end() {
            let problem = self.problem(option, "the end of a text moves as it grows");
            return Err(problem.help("count from the start: `all`, `exclude_first: 1`, `at: [0]`, `range: [2, 5]`"));
        }
        if let Some((context, (i, at))) =
            self.scene.context.and_then(|context| Some((context, positions.out_of_reach(context)?)))
        {
            let message = format!("no text has a position {at}: they have up to {context} tokens");
            return Err(self.problem(&format!("{option}.at[{i}]"), message));
        }
        Ok(())
    }

    /// Whether every query keeps a key, as far as can be said without knowing lengths.
    fn check_keys(&self, keys: &Positions) -> Result<(), Problems> {
        let queries = &self.item.positions;
        if keys.counts_from_end() || queries.counts_from_end() {
            return Ok(());
        }
        let context = self.scene.context.unwrap_or(1).max(1);
        let blind =
            (0..context).take_while(|key| keys.includes(*key, context)).find(|at| queries.includes(*at, context));
        match blind {
            None => Ok(()),
            Some(at) => {
                let problem = self.problem("do.knock_out.keys", format!("position {at} would have no key left to see"));
                Err(problem.help("leave a key, or leave these queries out by `positions`"))
            }
        }
    }

    fn check_model(&self, model: &ModelFacts, first_change: Option<HookPoint>) -> Result<(), Problems> {
        let hooks = hooks_like(&format!("{}.at", self.field), &self.item.at, model)?;
        for hook in &hooks {
            // One of the hook points that a glob stands for is enough to hear of.
            self.check_hook(hook)?;
        }
        let points = hooks.iter().filter_map(|hook| hook.name.parse::<HookPoint>().ok());
        if matches!(self.item.action, Action::FreezeScale)
            && first_change.is_none_or(|first| points.max() < Some(first))
        {
            let problem = self.problem("at", "no intervention before this scale changes it");
            return Err(problem.help("a frozen scale changes nothing by itself"));
        }
        Ok(())
    }

    /// Whether the action makes sense at a hook point, and what it takes fits.
    fn check_hook(&self, hook: &HookFact) -> Result<(), Problems> {
        let name = &hook.name;
        let point: HookPoint = name.parse().map_err(|_| self.problem("at", format!("`{name}` is no hook point")))?;
        let action = &self.item.action;
        let scale = is_scale(point);
        if point == HookPoint::Logits && !self.scene.logits {
            return Err(self.problem("at", "logits exist for a few rows at a time here and cannot be changed"));
        }
        if let Some(last) = self.scene.last.filter(|last| point > *last) {
            return Err(self.problem("at", format!("`{name}` comes after `{last}`, the last one that is read")));
        }
        match action {
            Action::KnockOut(_) if point.site() != Some(Site::AttnScores) => {
                let problem = self.problem("at", format!("attention is knocked out at its scores, not at `{name}`"));
                return Err(problem.help("`blocks.*.attn.hook_attn_scores`"));
            }
            Action::FreezeScale if !scale => {
                let problem = self.problem("at", format!("`{name}` is no norm's scale"));
                return Err(problem.help("`blocks.*.ln1.hook_scale`, `ln_final.hook_scale`"));
            }
            Action::Zero if scale => return Err(self.problem("do", "a norm cannot be divided by zero")),
            Action::KnockOut(_) | Action::FreezeScale | Action::Zero | Action::Patch => {}
            _ if point.per_key() => {
                let why = format!("`{name}` has a number a key, so that no vector fits: `{}`", action.name());
                return Err(self.problem("do", why).help("`zero` and `knock_out` work there"));
            }
            Action::Add(add) => add.direction.check(&format!("{}.do.add.direction", self.field), hook, self.inputs)?,
            Action::ProjectOut(out) => {
                out.direction.check(&format!("{}.do.project_out.direction", self.field), hook, self.inputs)?;
            }
            Action::Mean | Action::MeanByPosition | Action::Resample => self.check_stored(hook)?,
            Action::Splice(spliced) => self.check_dictionary(hook, spliced)?,
            Action::Noise(_) => {}
        }
        self.check_units(hook, point)
    }

    fn check_units(&self, hook: &HookFact, point: HookPoint) -> Result<(), Problems> {
        let name = &hook.name;
        let has_heads = hook.shape.len() > 1;
        let width = *hook.shape.last().unwrap_or(&1);
        for (option, what, list, count) in [
            ("heads", "head", &self.item.heads, has_heads.then(|| hook.shape[0])),
            ("neurons", "number", &self.item.neurons, (!point.per_key() && !is_scale(point)).then_some(width)),
        ] {
            let Some(list) = list else { continue };
            let Some(count) = count else {
                return Err(self.problem(option, format!("`{name}` has no {what}s to choose from")));
            };
            if let Some((j, beyond)) = list.iter().enumerate().find(|(_, index)| **index >= count) {
                let message = format!("`{name}` has no {what} {beyond}; it has {count}");
                return Err(self.problem(&format!("{option}[{j}]"), message));
            }
        }
        Ok(())
    }

    /// Whether the activations that are connected hold the hook point.
    fn check_stored(&self, hook: &HookFact) -> Result<(), Problems> {
        let Some(activations) = self.inputs.activations("activations") else { return Ok(()) };
        match activations.hook(&hook.name) {
            Some(stored) if stored.shape == hook.shape => Ok(()),
            Some(stored) => {
                let (name, shape, own) = (&hook.name, &stored.shape, &hook.shape);
                Err(Problems::input("activations", format!("`{name}` has shape {shape:?} there and {own:?} here")))
            }
            None => {
                let problem = Problems::input("activations", format!("they do not hold `{}`", hook.name));
                let held: Vec<&str> = activations.hooks.iter().map(|hook| hook.name.as_str()).collect();
                Err(problem.help(format!("they hold {}", held.join(", "))))
            }
        }
    }

    /// Whether the dictionary reads this hook point and has the latents.
    fn check_dictionary(&self, hook: &HookFact, spliced: &Spliced) -> Result<(), Problems> {
        if self.inputs.many("dictionary").is_empty() {
            let problem = self.problem("do", "`splice` takes a dictionary, and none is connected");
            return Err(problem.help("connect an autoencoder to the input `dictionary`"));
        }
        if let Some(dictionary) = self.inputs.dictionary("dictionary")
            && let Some(out) = &dictionary.hook_out
        {
            let message = format!(
                "it is a transcoder from `{}` to `{}`, and `splice` reads and changes one hook point",
                dictionary.hook, out.name
            );
            return Err(Problems::input("dictionary", message).help("`evaluate_sae` splices transcoders"));
        }
        for (j, latent) in spliced.zero_latents.iter().enumerate() {
            let field = format!("{}.do.splice.zero_latents[{j}]", self.field);
            check_latent(&field, *latent, hook, self.inputs)?;
        }
        match self.inputs.dictionary("dictionary") {
            Some(dictionary) if dictionary.hook != hook.name => {
                let message = format!("the dictionary reads `{}`, not `{}`", dictionary.hook, hook.name);
                Err(self.problem("at", message))
            }
            Some(dictionary) if dictionary.d_in != hook.width() => {
                let (d_in, name, shape) = (dictionary.d_in, &hook.name, &hook.shape);
                let message = format!("it reads vectors of {d_in}, `{name}` has shape {shape:?}");
                Err(Problems::input("dictionary", message))
            }
            _ => Ok(()),
        }
    }
}

fn is_scale(point: HookPoint) -> bool {
    matches!(point.site(), Some(Site::Ln1Scale | Site::Ln1PostScale | Site::Ln2Scale | Site::Ln2PostScale))
        || point == HookPoint::FinalScale
}
