//! Which columns of a file hold what.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which columns of a file of prompts hold what. Other columns are passed over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Columns {
    /// The prompt.
    #[serde(default = "clean")]
    pub clean: String,
    /// The right answer, or a JSON list of right answers.
    #[serde(default = "right")]
    pub right: String,
    /// The wrong answer, or a list. Without it a prompt has no wrong answers, and only its right ones can be measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
    /// The counterfactuals by name.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub counterfactuals: IndexMap<String, CounterfactualColumns>,
    /// Parts of the prompt by name: columns that hold its very words, of which the first occurrence counts.
    #[serde(default, skip_serializing_if = "IndexMap::is_empty")]
    pub spans: IndexMap<String, String>,
    /// The template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// What makes prompts alike: intervals count groups. Without it every row is a group of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Columns that are kept as variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<String>,
    /// What the answers are.
    #[serde(default)]
    pub answers: AnswerKind,
    /// Put a space before answers that begin with none.
    #[serde(default)]
    pub space: bool,
}

/// The columns of a counterfactual.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CounterfactualColumns {
    /// Its text.
    pub text: String,
    /// Its own right answer; without it the prompt's answers, right and wrong, are measured on it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub right: Option<String>,
    /// Its own wrong answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<String>,
}

/// What the columns of answers hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerKind {
    /// Texts that continue the prompt.
    #[default]
    Text,
    /// Token ids of this tokenizer, whose words stand in the text: an id whose word does not is of another tokenizer, an error.
    Ids,
    /// A number YY of two digits, of which a leading zero may be missing: right are those above it, wrong are 00 to YY.
    Above,
}

fn clean() -> String {
    "clean".to_owned()
}

fn right() -> String {
    "right".to_owned()
}

/// Files whose columns are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// `clean`, `corrupted`, `right`, `wrong`.
    #[default]
    Plain,
    /// Greater-than of EAP-IG: `clean`, `corrupted`, `label`.
    EapGreaterThan,
    /// Indirect objects of EAP-IG: `clean`, `corrupted`, `corrupted_hard`, `correct_idx`, `incorrect_idx`.
    EapIoi,
    /// auto-circuit: `clean`, `corrupt`, `answers`, `wrong_answers`.
    AutoCircuit,
    /// Agreement of feature circuits: `clean_prefix`, `patch_prefix`, `clean_answer`, `patch_answer`, `case`.
    Sva,
    /// Facts of ROME: `prompt`, `subject`, `attribute`, `template`, `relation_id`.
    Facts,
}

impl Layout {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Plain, Self::EapGreaterThan, Self::EapIoi, Self::AutoCircuit, Self::Sva, Self::Facts];

    /// The name in a pipeline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::EapGreaterThan => "eap_greater_than",
            Self::EapIoi => "eap_ioi",
            Self::AutoCircuit => "auto_circuit",
            Self::Sva => "sva",
            Self::Facts => "facts",
        }
    }

    /// Its columns.
    pub fn columns(self) -> Columns {
        let of = |clean: &str, right: &str, wrong: Option<&str>, counterfactuals: &[(&str, CounterfactualColumns)]| {
            let named = |(name, columns): &(&str, CounterfactualColumns)| ((*name).to_owned(), columns.clone());
            Columns {
                clean: clean.to_owned(),
                right: right.to_owned(),
                wrong: wrong.map(str::to_owned),
                counterfactuals: counterfactuals.iter().map(named).collect(),
                ..Columns::default()
            }
        };
        match self {
            Self::Plain => of("clean", "right", Some("wrong"), &[("corrupted", text("corrupted"))]),
            Self::EapGreaterThan => Columns {
                answers: AnswerKind::Above,
                ..of("clean", "label", None, &[("corrupted", text("corrupted"))])
            },
            Self::EapIoi => {
                let hard = answered("corrupted_hard", "incorrect_idx", "correct_idx");
                let counterfactuals = [("corrupted", text("corrupted")), ("corrupted_hard", hard)];
                let columns = of("clean", "correct_idx", Some("incorrect_idx"), &counterfactuals);
                Columns { answers: AnswerKind::Ids, ..columns }
            }
            Self::AutoCircuit => of("clean", "answers", Some("wrong_answers"), &[("corrupt", text("corrupt"))]),
            Self::Sva => {
                let patch = answered("patch_prefix", "patch_answer", "clean_answer");
                let columns = of("clean_prefix", "clean_answer", Some("patch_answer"), &[("patch", patch)]);
                Columns { variables: vec!["case".to_owned()], ..columns }
            }
            Self::Facts => Columns {
                spans: IndexMap::from([("subject".to_owned(), "subject".to_owned())]),
                template: Some("template".to_owned()),
                group: Some("relation_id".to_owned()),
                variables: vec!["subject".to_owned(), "relation_id".to_owned()],
                space: true,
                ..of("prompt", "attribute", None, &[])
            },
        }
    }
}

/// A counterfactual without answers of its own.
fn text(column: &str) -> CounterfactualColumns {
    CounterfactualColumns { text: column.to_owned(), right: None, wrong: None }
}

fn answered(column: &str, right: &str, wrong: &str) -> CounterfactualColumns {
    CounterfactualColumns { text: column.to_owned(), right: Some(right.to_owned()), wrong: Some(wrong.to_owned()) }
}

impl Default for Columns {
    fn default() -> Self {
        Self {
            clean: clean(),
            right: right(),
            wrong: None,
            counterfactuals: IndexMap::new(),
            spans: IndexMap::new(),
            template: None,
            group: None,
            variables: Vec::new(),
            answers: AnswerKind::default(),
            space: false,
        }
    }
}

impl Columns {
    /// Every column that is needed, some of them several times.
    pub(super) fn needed(&self) -> impl Iterator<Item = &str> {
        let versions = self.counterfactuals.values();
        let of_versions =
            versions.flat_map(|columns| [Some(&columns.text), columns.right.as_ref(), columns.wrong.as_ref()]);
        [Some(&self.clean), Some(&self.right), self.wrong.as_ref(), self.template.as_ref(), self.group.as_ref()]
            .into_iter()
            .chain(of_versions)
            .flatten()
            .chain(self.spans.values())
            .chain(&self.variables)
            .map(String::as_str)
    }

    /// Whether there are wrong answers.
    pub fn has_wrong(&self) -> bool {
        self.wrong.is_some() || self.answers == AnswerKind::Above
    }

    /// What makes no sense by itself: a path into the columns and why.
    pub fn problems(&self) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut wrong = |path: String, why: &str| problems.push((path, why.to_owned()));
        if self.spans.contains_key("last") {
            wrong("spans.last".to_owned(), "every prompt has a span of this name, its last token");
        }
        if self.counterfactuals.contains_key("clean") {
            wrong("counterfactuals.clean".to_owned(), "this name is the prompt's own");
        }
        for (name, columns) in &self.counterfactuals {
            if columns.wrong.is_some() && columns.right.is_none() {
                wrong(format!("counterfactuals.{name}.wrong"), "wrong answers need right ones beside them");
            }
        }
        if self.answers == AnswerKind::Above {
            let of_versions = self.counterfactuals.iter();
            let of_versions =
                of_versions.map(|(name, columns)| (format!("counterfactuals.{name}.wrong"), &columns.wrong));
            for (path, column) in [("wrong".to_owned(), &self.wrong)].into_iter().chain(of_versions) {
                if column.is_some() {
                    wrong(path, "with `answers: above` the wrong answers follow from the right one");
                }
            }
        }
        if self.space && self.answers != AnswerKind::Text {
            wrong("space".to_owned(), "this is for answers that are texts");
        }
        problems
    }
}
