//! `known_circuit`: a transformer whose circuit is known by construction.

use std::collections::BTreeMap;

use mediant_artifact::{
    Contrast, Digest, Facts, Kind, ModelTokenizer, PromptsFacts, ScoresMeta, write_prompts, write_scores,
};
use mediant_engine::{
    Docs, InputFacts, Output, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};
use mediant_lm::{model_facts, save};
use mediant_methods::known_circuit::{CircuitKind, KnownCircuit, RESAMPLED};
use mediant_tensor::{Device, on_device};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct KnownCircuitStage;

/// Options of `known_circuit`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which circuit.
    circuit: CircuitKind,
    /// Number of prompts.
    #[serde(default = "hundred")]
    n: u64,
    /// By how many nats attention prefers what it looks for: 30 to 1000. 100 in tracr.
    #[serde(default = "cold")]
    coldness: f64,
    /// Chooses the prompts; the model has nothing that is drawn.
    #[serde(default)]
    seed: u64,
}

fn hundred() -> u64 {
    100
}

fn cold() -> f64 {
    100.0
}

/// Prompts are made in memory, and each is run twice.
const MOST_PROMPTS: u64 = 100_000;

impl Config {
    fn circuit(&self) -> Result<KnownCircuit, mediant_methods::Error> {
        KnownCircuit::new(self.circuit, self.coldness)
    }
}

/// Digest of the tokenizer of a circuit.
fn tokenizer(circuit: &KnownCircuit) -> Digest {
    let [(_, tokenizer), _] = circuit.tokenizer_files();
    Digest::of(&tokenizer)
}

impl Stage for KnownCircuitStage {
    type Config = Config;
    const NAME: &'static str = "known_circuit";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "A transformer whose circuit is known by construction, its prompts, and the edges that are the circuit",
            details: DETAILS,
            example: "known:\n  uses: known_circuit\n  with: { circuit: { compiled: { program: lookup_sum } }, n: 100 }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(&[])
    }

    fn outputs(&self, _: &Config) -> Vec<Output> {
        vec![
            Output::new("model", Kind::Model, "The model with its tokenizer: a GPT-2 without norms."),
            Output::new("prompts", Kind::Prompts, "The prompts, each with the counterfactual `resampled`."),
            Output::new(
                "truth",
                Kind::Scores,
                "Every edge of the model's graph: 1 if it is of the circuit, or else 0.",
            ),
        ]
    }

    fn check(&self, config: &Config) -> Result<(), Problems> {
        let mut problems = Problems::none();
        if config.n == 0 || config.n > MOST_PROMPTS {
            problems.push(Problems::config("n", format!("must be from 1 to {MOST_PROMPTS}")));
        }
        if !(30.0..=1000.0).contains(&config.coldness) {
            let message = "must be from 30 to 1000: below, attention sees what it does not look for";
            problems.push(Problems::config("coldness", message));
        }
        problems.finish()
    }

    fn infer(&self, config: &Config, _: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let circuit = config.circuit().map_err(|error| Problems::config("circuit", error.to_string()))?;
        let tokenizer = tokenizer(&circuit);
        let prompts = PromptsFacts {
            counterfactuals: vec![RESAMPLED.to_owned()],
            spans: Some(circuit.spans()),
            tokenizer: Some(tokenizer),
            vocab_size: Some(circuit.config().vocab_size),
            longest: Some(circuit.longest()),
            prompts: Some(config.n),
            prepend_bos: true,
            wrong: Some(true),
            variables: None,
        };
        Ok(vec![
            ("model".to_owned(), Facts::Model(model_facts(circuit.config(), ModelTokenizer::Known(tokenizer)))),
            ("prompts".to_owned(), Facts::Prompts(prompts)),
            ("truth".to_owned(), Facts::Scores(None)),
        ])
    }

    fn resources(&self, _: &Config, _: &InputFacts) -> Resources {
        Resources { gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, Config>) -> Result<(), StageError> {
        let config = cx.config();
        let circuit = config.circuit()?;
        let files = circuit.tokenizer_files();
        on_device!(Device::Cpu, C, device => {
            let model = circuit.model::<C>(&device)?;
            save(&model, &circuit.config_json(), &files, cx.output("model")?)?;
            Ok::<_, StageError>(())
        })?;
        let prompts = circuit.prompts(config.n, config.seed)?;
        let (digest, size) = (tokenizer(&circuit), circuit.config().vocab_size);
        write_prompts(cx.output("prompts")?, &[RESAMPLED.to_owned()], digest, size, true, &prompts)?;
        let truth = circuit.truth(config.n)?;
        let edges = truth.iter().filter(|row| row.value > 0.0).count();
        cx.note(format!("{}: {edges} of {} edges are the circuit", config.circuit.name(), truth.len()));
        let meta = ScoresMeta {
            method: Self::NAME.to_owned(),
            metric: "truth".to_owned(),
            unit: "1".to_owned(),
            contrast: Contrast::Truth,
            counterfactual: Some(RESAMPLED.to_owned()),
            passes: 0.0,
            settings: BTreeMap::from([
                ("circuit".to_owned(), config.circuit.name().to_owned()),
                ("variables".to_owned(), circuit.variables().join(", ")),
            ]),
            seed: config.seed,
            scores: truth.len() as u64,
        };
        write_scores(cx.output("truth")?, meta, &truth)?;
        Ok(())
    }
}

const DETAILS: &str = "\
Weights set by hand. Every variable has directions of its own in the residual stream, one a value; heads and neurons read some and write \
others, each variable is written by one node. Besides the circuit a model has heads and MLPs that compute something the answer does not need, out of \
the same variables, some with the very attention of the circuit's heads, and heads and MLPs that do nothing.

| `circuit` | a prompt | the circuit |
| --- | --- | --- |
| `induction` | ten letters, the last of which stood before: its follower | a0.h2 writes the letter before each position; a1.h1 attends to where that is the last letter |
| `indirect_object` | `when Ben and Ivy went to the park , Ben gave a ring to`: the other name | a0.h1 finds the name that stood before; a1.h2 brings it to the end; a2.h0 copies a name that is not this one |
| `compiled: { program: hist }` | eight letters of four: how often the last occurs | a0.h1 attends equally to BOS and to what is equal; m0 tells 1/2, 1/3, … apart |
| `compiled: { program: lookup_sum }` | eight digits, the last of which stood before: its follower plus the first, modulo 8 | as `induction`, beside it a0.h0 that copies the first; m1 adds, with a neuron a pair |

Programs are compiled in the manner of tracr (Lindner et al. 2023, arXiv:2301.05062) from expressions of RASP (Weiss et al. 2021, arXiv:2106.06981), under a causal mask: \
`aggregate` becomes a head, `map` and `sequence_map` a neuron for each value or pair, `selector_width` a head and neurons; an expression is \
computed in the first layer where all it reads is there.

**The model** is a GPT-2 without norms (`mediant_folded` when it is exported), float32. Attention prefers what it looks for by `coldness` nats to all else, \
and BOS by half of that, so that a head that finds nothing reads BOS, where nothing stands. Neurons are driven so far that `gelu_new` is a ReLU to the last bit. The right answer is 10 nats ahead of \
every other.

**Pairs.** The counterfactual `resampled` is another prompt of the same distribution, drawn again until answers and all variables on the way to the answer differ: \
letters and digits at every place (`hist`: the last letter), names all. So the same variables of the circuit differ in every pair. The wrong answer is the \
counterfactual's right one, for `indirect_object` the repeated name. Spans of a counterfactual are where the clean prompt has them.

**Truth.** `truth` has a value for every edge of the graph of `edge_attribution`: 1 where the node writes a variable that differs within the pairs and the receiver \
reads it for something that the answer needs, or else 0. An edge that carries the same in both (positions, BOS) is not of the circuit, nor is one whose \
receiver has no way to the answer, whatever it carries. No variable of a circuit is carried twice, and none is masked by another, so that each of these edges, patched alone, changes the answer: \
truth is what `edge_attribution` with `method: exact` can see.";
