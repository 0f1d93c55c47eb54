//! Members of many-valued ports, told apart by their names and the labels of their axes.

use std::collections::BTreeMap;

use mediant_artifact::{Artifact, Kind, MetricRow, TokenSpans, Tokens, TokensMeta};
use mediant_engine::{InputFacts, MemberFacts, Port, Problems, RunContext, StageError};
use mediant_methods::bootstrap::Estimate;
use mediant_spec::did_you_mean;

use crate::model_input::check_tokens;

/// Models to compare.
pub(crate) const MODELS: Port =
    Port::many("models", &[Kind::Model], "The models, by name: `{ original: a, ln_free: b }`; or one.");

/// Corpora to measure on.
pub(crate) const CORPORA: Port = Port::many(
    "tokens",
    &[Kind::Tokens],
    "What is predicted: one corpus, or several by name: `{ held_out: tokens.test, pile: pile }`.",
);

/// What tells a member from the others; empty for one that stands alone.
pub(crate) fn label(name: Option<&str>, labels: &[(String, String)]) -> String {
    let labels = labels.iter().map(|(axis, label)| format!("{axis}={label}"));
    name.map(str::to_owned).into_iter().chain(labels).collect::<Vec<_>>().join(",")
}

fn label_of(member: &MemberFacts) -> String {
    label(member.name.as_deref(), &member.labels)
}

/// Whether the members of a port can be told apart.
pub(crate) fn check_apart(inputs: &InputFacts, port: &str) -> Result<(), Problems> {
    let labels: Vec<String> = inputs.many(port).iter().map(label_of).collect();
    if (1..labels.len()).all(|i| !labels[..i].contains(&labels[i])) {
        return Ok(());
    }
    let message = "nothing tells these apart in the results";
    Err(Problems::input(port, message).help(format!("name them: `{port}: {{ one: …, other: … }}`")))
}

/// Whether there are models and corpora that can be told apart and fit together.
pub(crate) fn check_models_and_corpora(inputs: &InputFacts) -> Problems {
    let mut problems = Problems::none();
    problems.check(check_apart(inputs, "models"));
    problems.check(check_apart(inputs, "tokens"));
    problems.check(check_tokens(inputs, "models", "tokens"));
    problems
}

/// The member of a port that the option `field` names.
pub(crate) fn member<'i>(
    inputs: &'i InputFacts,
    port: &str,
    field: &str,
    name: &str,
) -> Result<&'i MemberFacts, Problems> {
    let members = inputs.many(port);
    if let Some(found) = members.iter().find(|member| label_of(member) == name) {
        return Ok(found);
    }
    let labels: Vec<String> = members.iter().map(label_of).filter(|label| !label.is_empty()).collect();
    let problem = Problems::config(field, format!("there is no `{name}` among `{port}`"));
    Err(match did_you_mean(name, labels.iter().map(String::as_str)) {
        Some(near) => problem.help(format!("did you mean `{near}`?")),
        None if labels.is_empty() => problem.help(format!("name them: `{port}: {{ {name}: … }}`")),
        None => problem.help(format!("there are {}", labels.join(", "))),
    })
}

/// A member of a port.
pub(crate) struct Named {
    pub(crate) label: String,
    pub(crate) artifact: Artifact,
}

/// The members of a port, sorted by name and labels.
pub(crate) fn named<C>(cx: &RunContext<'_, C>, port: &str) -> Result<Vec<Named>, StageError> {
    let members = cx.members(port)?.into_iter();
    let named = members.map(|m| Named { label: label(m.name.as_deref(), &m.labels), artifact: m.artifact });
    Ok(named.collect())
}

/// The tokens of a corpus, and the document of each. Something in it is predicted.
pub(crate) fn corpus(named: &Named) -> Result<(Tokens, Vec<u32>), StageError> {
    let (tokens, documents) = (Tokens::read(&named.artifact)?, TokenSpans::documents(&named.artifact)?);
    if mediant_lm::predicted(&tokens, 0..tokens.len()).next().is_none() {
        return Err(StageError::new(match named.label.as_str() {
            "" => "the corpus has no token that is predicted and counts".to_owned(),
            label => format!("the corpus `{label}` has no token that is predicted and counts"),
        }));
    }
    Ok((tokens, documents))
}

/// Progress over several passes.
pub(crate) struct Passes<'r, C> {
    cx: &'r RunContext<'r, C>,
    done: u64,
    total: u64,
}

impl<'r, C> Passes<'r, C> {
    /// Of so many passes over all corpora.
    pub(crate) fn over(cx: &'r RunContext<'r, C>, passes: usize, corpora: &[Named]) -> Result<Self, StageError> {
        let tokens = |named: &Named| Ok(named.artifact.meta::<TokensMeta>()?.tokens);
        let tokens = corpora.iter().map(tokens).sum::<Result<u64, StageError>>()?;
        Ok(Self::of(cx, passes, tokens))
    }

    /// Of so many passes over so many tokens.
    pub(crate) fn of(cx: &'r RunContext<'r, C>, passes: usize, tokens: u64) -> Self {
        Self { cx, done: 0, total: tokens * passes as u64 }
    }

    /// Tells how far the pass under way has come, and stops where the run is being cancelled.
    pub(crate) fn step(&self) -> impl FnMut(u64, u64) -> Result<(), StageError> + use<'_, 'r, C> {
        |done, _| {
            self.cx.progress(self.done + done, self.total, "tokens");
            self.cx.check_cancelled()
        }
    }

    /// A pass over so many tokens is done.
    pub(crate) fn passed(&mut self, tokens: u64) {
        self.done += tokens;
    }
}

/// What tells a row from others of its name; what is empty tells nothing.
pub(crate) fn tags<'t>(tags: impl IntoIterator<Item = (&'t str, &'t str)>) -> BTreeMap<String, String> {
    let told = tags.into_iter().filter(|(_, value)| !value.is_empty());
    told.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A metric with its interval, of which the seed is told.
pub(crate) fn metric(name: &str, unit: &str, n: u64, estimate: Estimate, seed: u64) -> MetricRow {
    MetricRow {
        name: name.to_owned(),
        value: estimate.value,
        unit: unit.to_owned(),
        n,
        low: estimate.interval.map(|(low, _)| low),
        high: estimate.interval.map(|(_, high)| high),
        seed: estimate.interval.map(|_| seed),
        ..MetricRow::default()
    }
}

/// None of the models has the norm `norm` of Gemma 2, which would stand between `what` and the residual stream.
pub(crate) fn check_no_norm_between(inputs: &InputFacts, norm: &str, what: &str) -> Result<(), Problems> {
    let hook = format!("blocks.0.{norm}.hook_scale");
    let models = inputs.many("models").iter().filter_map(|member| member.facts.model());
    let mut models = models.filter(|model| model.hook(&hook).is_some());
    match models.next() {
        Some(model) => {
            let message = format!(
                "in this {} model a norm stands between {what} and the residual stream, which this is not built for",
                model.architecture
            );
            Err(Problems::input("models", message))
        }
        None => Ok(()),
    }
}
