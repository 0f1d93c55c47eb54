//! One model, or several of which one is what the others are compared with.

use mediant_artifact::{Kind, NormFacts};
use mediant_engine::{InputFacts, MemberFacts, Port, Problems, RunContext, StageError};

use crate::interventions::Intervention;
use crate::named::{Named, check_apart, label, member, named};

/// One model.
pub(crate) const MODEL: Port = Port::optional("model", &[Kind::Model], "The model.");

/// Several.
pub(crate) const MODELS: Port = Port::any(
    "models",
    &[Kind::Model],
    "Instead of `model`: several, one of which the others are compared with: `{ original: a, control: b, ln_free: c }`.",
);

/// Which model the others are compared with, as the options `control` and `without_control` say.
#[derive(Clone, Copy)]
pub(crate) struct Against<'c> {
    pub(crate) control: &'c Option<String>,
    pub(crate) without_control: &'c Option<String>,
}

impl<'c> Against<'c> {
    /// The option that is given, and the model that it names.
    fn given(self) -> Option<(&'static str, &'c str)> {
        let control = self.control.as_deref().map(|name| ("control", name));
        control.or(self.without_control.as_deref().map(|name| ("without_control", name)))
    }

    /// The model that `model` is compared with, and the tag that names it in the results: `against` a control, `without_control` any other.
    pub(crate) fn other_than(self, model: &str) -> Option<(&'static str, &'c str)> {
        let tag = if self.control.is_some() { "against" } else { "without_control" };
        self.given().map(|(_, name)| (tag, name)).filter(|(_, name)| *name != model)
    }

    /// Whether there is at most one.
    pub(crate) fn check(self) -> Result<(), Problems> {
        match (self.control, self.without_control) {
            (Some(_), Some(_)) => {
                let both = Problems::config("without_control", "is given beside `control`");
                Err(both.help("remove one of them"))
            }
            _ => Ok(()),
        }
    }

    /// Whether there is one model, or several and one of them that the others are compared with. `interventions` change one alone.
    pub(crate) fn check_models(self, inputs: &InputFacts, interventions: &[Intervention]) -> Problems {
        let mut problems = Problems::none();
        let one = !inputs.many("model").is_empty();
        let models = inputs.many("models");
        match (one, models.is_empty()) {
            (false, true) => {
                let none = Problems::config("", "no model is connected");
                problems.push(none.help("connect one to `model`, or several to `models`"));
            }
            (true, false) => problems
                .push(Problems::input("models", "is connected beside `model`").help("connect all of them to `models`")),
            (true, true) => {
                if let Some((field, _)) = self.given() {
                    let alone = Problems::config(field, "there is one model, and nothing to compare it with");
                    problems.push(alone.help("connect several to `models`"));
                }
            }
            (false, false) => {
                problems.check(check_apart(inputs, "models"));
                if !interventions.is_empty() {
                    let several = Problems::config("interventions", "they change one model, and several are connected");
                    problems.push(several.help("connect one to `model`"));
                }
                problems.check(self.check_named(models, inputs));
            }
        }
        problems
    }

    fn check_named(self, models: &[MemberFacts], inputs: &InputFacts) -> Result<(), Problems> {
        let live = |member: &MemberFacts| member.facts.model().is_none_or(|model| model.norms == NormFacts::Live);
        let removed = models.iter().find(|member| !live(member));
        let removed = removed.map(|member| label(member.name.as_deref(), &member.labels));
        match (self.given(), removed) {
            (None, Some(removed)) => {
                let message = format!(
                    "norms of `{removed}` are frozen or removed, and what that cost cannot be told without a control"
                );
                let help = "`control: NAME` names the model that was trained as it was with its norms kept; `without_control: NAME` compares with any other";
                Err(Problems::config("", message).help(help))
            }
            (None, None) => {
                let message = "which of the models are the others compared with?";
                Err(Problems::config("", message).help("`control: NAME`"))
            }
            (Some((field, name)), _) => match member(inputs, "models", field, name)? {
                control if field == "control" && !live(control) => {
                    let message = format!("norms of `{name}` are frozen or removed: it is no control");
                    Err(Problems::config(field, message))
                }
                _ => Ok(()),
            },
        }
    }
}

/// The models at `model` or `models`.
pub(crate) fn named_models<C>(cx: &RunContext<'_, C>) -> Result<Vec<Named>, StageError> {
    named(cx, if cx.is_connected("model") { "model" } else { "models" })
}
