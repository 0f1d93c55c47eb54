//! `score_agreement`: do two methods find the same mediators?

use std::collections::BTreeMap;

use mediant_artifact::{Facts, Kind, read_scores, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Member, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::{Scored, agreement};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct ScoreAgreement;

/// Options of `score_agreement`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of the bootstrap.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[Port::many("scores", &[Kind::Scores], "Two or more methods' scores of the same mediators.")];

impl Stage for ScoreAgreement {
    type Config = Config;
    const NAME: &'static str = "score_agreement";
    const VERSION: u32 = 2;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Rank correlation between methods that score the same mediators",
            details: DETAILS,
            example: "agreement:\n  uses: score_agreement\n  inputs: { scores: { exact: patched, estimate: attributed } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("metrics", Kind::Metrics, "`spearman` and `pearson` of every two methods.")]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        if inputs.many("scores").len() < 2 {
            return Err(Problems::input("scores", "one method has nothing to agree with"));
        }
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let scored = |member: Member| {
            let (meta, rows) = read_scores(&member.artifact)?;
            let labels: Vec<String> = member.labels.iter().map(|(axis, label)| format!("{axis}={label}")).collect();
            let (name, of) = match member.name {
                // Names tell methods apart, so that what is left says what they were used on.
                Some(name) => (name, member.labels.into_iter().collect()),
                None if labels.is_empty() => (meta.method, BTreeMap::new()),
                None => (labels.join(","), BTreeMap::new()),
            };
            Ok(Scored { name, of, rows })
        };
        let methods = cx.members("scores")?.into_iter().map(scored).collect::<Result<Vec<_>, StageError>>()?;
        write_metrics(cx.output("metrics")?, &agreement(&methods, cx.config().seed)?)?;
        Ok(())
    }
}

const DETAILS: &str = "\
For every two inputs, over the mediators that both have by name: `spearman`, the correlation of their ranks (ties share the mean of theirs), and \
`pearson`, the correlation of the values; tags `a` and `b` say which two. Inputs with names (`{ exact: patched, estimate: attributed }`) are \
compared where the labels of their axes are equal, task by task for example, and the labels are tags too; in a list without names every instance \
is compared with every other. Intervals hold 95 percent of 1,000 draws of mediators. A high \
correlation says that the methods order mediators alike, not that their values are equal: compare those in `show`.";
