//! `score_auroc`: do scores find a circuit that is known?

use mediant_artifact::{Facts, Kind, read_scores, write_metrics};
use mediant_engine::{
    Docs, InputFacts, Member, MemberFacts, Output, Port, Ports, Problems, RunContext, SourcePaths, Stage, StageError,
};
use mediant_methods::{Scored, auroc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model_input::called;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct ScoreAuroc;

/// Options of `score_auroc`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Of the bootstrap, and of the random scores.
    #[serde(default)]
    seed: u64,
}

const PORTS: &[Port] = &[
    Port::many("scores", &[Kind::Scores], "One or more methods' scores."),
    Port::many("truth", &[Kind::Scores], "Of the same mediators, 1 for those of the circuit and 0 for all others."),
];

impl Stage for ScoreAuroc {
    type Config = Config;
    const NAME: &'static str = "score_auroc";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "How well scores tell a known circuit from the rest: area under the ROC curve",
            details: DETAILS,
            example: "auroc:\n  uses: score_auroc\n  inputs: { scores: { exact: patched, eap: attributed }, truth: known.truth }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![Output::new("metrics", Kind::Metrics, "`auroc_abs` and `auroc_signed` of every method, and of `random`.")]
    }

    fn infer(&self, _: &Config, inputs: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let (scores, truths) = (inputs.many("scores"), inputs.many("truth"));
        let about =
            |truth: &MemberFacts, scores: &MemberFacts| truth.labels.iter().all(|label| scores.labels.contains(label));
        let mut problems = Problems::none();
        for member in scores {
            let found = truths.iter().filter(|truth| about(truth, member)).count();
            if found != 1 {
                let which = called(member, "the scores");
                problems.push(Problems::input(
                    "scores",
                    format!("there are {found} truths about what {which} are of, not one"),
                ));
            }
        }
        for truth in truths.iter().filter(|truth| !scores.iter().any(|member| about(truth, member))) {
            let which = called(truth, "the truth");
            problems.push(Problems::input("truth", format!("there are no scores about what {which} is of")));
        }
        problems.finish()?;
        Ok(vec![("metrics".to_owned(), Facts::Metrics)])
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let scored = |member: Member| {
            let (meta, rows) = read_scores(&member.artifact)?;
            Ok(Scored { name: member.name.unwrap_or(meta.method), of: member.labels.into_iter().collect(), rows })
        };
        let all = |port| cx.members(port)?.into_iter().map(scored).collect::<Result<Vec<_>, StageError>>();
        write_metrics(cx.output("metrics")?, &auroc(&all("scores")?, &all("truth")?, cx.config().seed)?)?;
        Ok(())
    }
}

const DETAILS: &str = "\
Of all pairs of a mediator of the circuit and another, the share in which the first has the larger score, ties counted half (Mann & Whitney \
1947): 1 if every mediator of the circuit is above all others, 0.5 for scores that know nothing. `auroc_abs` compares absolute values, `auroc_signed` \
values as they are, so that a mediator of the circuit that works against the answer counts as missed. `numerator` is the number of pairs in order, \
`denominator` that of pairs.

The tag `method` is the name of the input (`{ exact: patched, eap: attributed }`), or of its method. Scores are compared with the truth whose labels they \
have: with axes above, `known[circuit=…]` say, a row each, and the labels are tags too. Scores of other mediators than the truth's are an error, \
as is one that is not a number.

Intervals hold 95 percent of 1,000 draws of mediators, those of the circuit and the others each among themselves, the same draws for all methods of as many. \
`random` is the mean over 200 vectors of uniform numbers in [−1, 1), and its interval holds 95 percent of them: what no knowledge gives on a circuit \
of this size.";
