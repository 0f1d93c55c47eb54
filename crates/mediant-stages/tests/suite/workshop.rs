//! Stages without an engine: a folder of artifacts with their facts, and stages run on them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use mediant_artifact::{
    Artifact, ArtifactWriter, Digest, Facts, Kind, ModelTokenizer, Prompt, PromptsFacts, Version, write_prompts,
};
use mediant_engine::{
    ActionIo, Bound, Device, InputFacts, MemberFacts, MemberInput, Problems, Reporter, SourcePaths, StageError,
};
use mediant_lm::train::{Gpt2Shape, Start, gpt2_config, initial};
use mediant_lm::{LmConfig, Model, Parameter, model_facts, save};
use mediant_spec::parse;
use mediant_stages::catalogue;
use mediant_store::{Id, Store};
use mediant_tensor::Flex;
use tempfile::TempDir;

static NEVER: AtomicBool = AtomicBool::new(false);

/// Tokens of the tokenizer.
const VOCABULARY: usize = 512;

struct Silent;

impl Reporter for Silent {
    fn progress(&self, _: u64, _: u64, _: &str) {}
    fn note(&self, _: &str) {}
}

/// Artifacts by name, with their facts.
pub(crate) struct Workshop {
    folder: TempDir,
    artifacts: BTreeMap<String, (PathBuf, Facts)>,
    made: usize,
}

fn fixture(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../mediant-lm/tests/fixtures/llama_tokenizer/");
    std::fs::read(format!("{folder}{name}")).unwrap()
}

/// The model of the workshop: two layers of random weights, ten times the usual size so that every part matters.
pub(crate) fn model() -> (serde_json::Value, Model<Flex>) {
    let shape =
        Gpt2Shape { n_layers: 2, d_model: 16, n_heads: 2, d_mlp: 64, vocab_size: VOCABULARY, context: 32, tied: true };
    let json = gpt2_config(&shape, None, None, 0.0, 0.02);
    let config = LmConfig::from_json(&json).unwrap();
    let parameters = config.slots().into_iter().map(|slot| {
        let values = initial(&config, slot, Start { std: 0.02, sinusoidal: false }, 0);
        let values: Vec<f32> = values.into_iter().map(|x| 10.0 * x).collect();
        (slot, Parameter::new(values, &slot.shape(&config), &Default::default()).unwrap())
    });
    let parameters: Vec<_> = parameters.collect();
    (json, Model::new(config, parameters).unwrap())
}

/// A stage with the options that a pipeline file gives it.
pub(crate) fn bind(uses: &str, with: &str) -> Box<dyn Bound> {
    let text = format!("mediant: 1\nstages:\n  stage:\n    uses: {uses}\n    with: {with}\n");
    let pipeline = parse(Path::new("pipeline.yaml"), &text, &[]).unwrap();
    let bound = catalogue().get(uses).unwrap().bind(&pipeline.stages[0].with);
    bound.unwrap_or_else(|wrong| panic!("{uses} {with}: {wrong:?}"))
}

impl Workshop {
    /// With `model`, `prompts` and `tokens`.
    pub(crate) fn new() -> Self {
        let mut workshop = Self { folder: TempDir::new().unwrap(), artifacts: BTreeMap::new(), made: 0 };
        let tokenizer = Digest::of(&fixture("tokenizer.json"));
        let (json, model) = model();
        let files = ["tokenizer.json", "tokenizer_config.json"].map(|name| (name, fixture(name)));
        save(&model, &json, &files, workshop.writer("model", Kind::Model)).unwrap();
        let facts = Facts::Model(model_facts(model.config(), ModelTokenizer::Known(tokenizer)));
        workshop.keep("model", facts);

        let prompts: Vec<Prompt> = (0..6).map(prompt).collect();
        let writer = workshop.writer("prompts", Kind::Prompts);
        write_prompts(writer, &["other".to_owned()], tokenizer, VOCABULARY, false, &prompts).unwrap();
        let facts = PromptsFacts {
            counterfactuals: vec!["other".to_owned()],
            spans: Some(vec!["subject".to_owned()]),
            tokenizer: Some(tokenizer),
            vocab_size: Some(VOCABULARY),
            longest: Some(7),
            prompts: Some(6),
            prepend_bos: false,
            wrong: Some(true),
            variables: None,
        };
        workshop.keep("prompts", Facts::Prompts(facts));

        let rows = (0..12_u32).map(|row| {
            let ids: Vec<u32> = (0..16).map(|i| (row * 97 + i * i * 31 + i * 17) % 500).collect();
            format!("{{\"input_ids\": {ids:?}}}\n")
        });
        std::fs::write(workshop.folder.path().join("ids.jsonl"), rows.collect::<String>()).unwrap();
        let with = "{ source: ids.jsonl, context: 16, test_fraction: 0.0, pack: false, prepend_bos: false }";
        workshop.make("tokenize", with, &[("model", "model")], "tokens").unwrap();
        let tokens = workshop.artifacts["tokens.train"].clone();
        workshop.artifacts.insert("tokens".to_owned(), tokens);
        workshop
    }

    fn writer(&mut self, name: &str, kind: Kind) -> ArtifactWriter {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        ArtifactWriter::create(&path, kind).unwrap()
    }

    fn keep(&mut self, name: &str, facts: Facts) {
        self.artifacts.insert(name.to_owned(), (self.folder.path().join(name), facts));
    }

    fn inputs(&self, inputs: &[(&str, &str)]) -> InputFacts {
        let member = |name: &str| MemberFacts {
            labels: Vec::new(),
            name: None,
            facts: Arc::new(self.artifacts[name].1.clone()),
        };
        InputFacts::new(inputs.iter().map(|(port, name)| ((*port).to_owned(), vec![member(name)])).collect())
    }

    fn sources(&self, bound: &dyn Bound) -> SourcePaths {
        let sources = bound.sources().into_iter();
        SourcePaths::of(sources.map(|source| (source.field, self.folder.path().join(source.path))))
    }

    /// What is wrong with a stage at plan time: each problem's place and message.
    pub(crate) fn wrong(&self, uses: &str, with: &str, inputs: &[(&str, &str)]) -> Vec<(String, String)> {
        let bound = bind(uses, with);
        let told = |problems: Problems| {
            let place = |at: &mediant_engine::At| match at {
                mediant_engine::At::Config(path) => path.clone(),
                mediant_engine::At::Input(port, _) => format!("input {port}"),
            };
            problems.iter().map(|problem| (place(&problem.at), problem.message.clone())).collect()
        };
        if let Err(problems) = bound.check() {
            return told(problems);
        }
        bound.infer(&self.inputs(inputs), &self.sources(bound.as_ref())).map_or_else(told, |_| Vec::new())
    }

    /// Runs a stage; its outputs are there as `name.output`, the first as `name` too.
    pub(crate) fn make(&mut self, uses: &str, with: &str, inputs: &[(&str, &str)], name: &str) -> Result<(), String> {
        assert_eq!(self.wrong(uses, with, inputs), []);
        let bound = bind(uses, with);
        let facts = bound.infer(&self.inputs(inputs), &self.sources(bound.as_ref())).unwrap();
        let member = |name: &str| MemberInput {
            labels: Vec::new(),
            name: None,
            path: self.artifacts[name].0.clone(),
            digest: Digest::of(name.as_bytes()),
        };
        self.made += 1;
        let staging = self.folder.path().join(format!("made-{}", self.made));
        std::fs::create_dir(&staging).unwrap();
        let store = Store::open(&self.folder.path().join("store")).unwrap();
        let io = ActionIo {
            inputs: inputs.iter().map(|(port, name)| ((*port).to_owned(), vec![member(name)])).collect(),
            outputs: bound.outputs().into_iter().map(|output| (output.name, String::new(), output.kind)).collect(),
            sources: self.sources(bound.as_ref()),
            staging: staging.clone(),
            checkpoints: store.checkpoints(Id::of(staging.to_string_lossy().as_bytes()), "cpu"),
            checkpoint_every: std::time::Duration::from_secs(30),
            threads: 1,
            device: Device::Cpu,
            reporter: Box::new(Silent),
            cancel: &NEVER,
        };
        let mut result = Err("the stage did not say how it went".to_owned());
        let mut done = |_, ran: Result<(), StageError>| result = ran.map_err(|error| error.to_string());
        catalogue().get(uses).unwrap().run(&[(&bound.yaml().unwrap(), &io)], &mut done).unwrap();
        result?;
        for (i, (output, facts)) in facts.into_iter().enumerate() {
            let path = staging.join(format!("out-{output}"));
            if i == 0 {
                self.artifacts.insert(name.to_owned(), (path.clone(), facts.clone()));
            }
            self.artifacts.insert(format!("{name}.{output}"), (path, facts));
        }
        Ok(())
    }

    /// An artifact.
    pub(crate) fn artifact(&self, name: &str) -> Artifact {
        Artifact::open(&self.artifacts[name].0).unwrap()
    }
}

/// Random tokens: three prompts of seven tokens, three of five.
fn prompt(number: i32) -> Prompt {
    let length = if number < 3 { 7 } else { 5 };
    let version = |seed: i32| Version {
        text: String::new(),
        ids: (0..length).map(|i| if i == 2 { 40 + seed } else { (number * 53 + i * i * 29 + 11) % 500 }).collect(),
        right: vec![(number * 71 + 5) % 500],
        wrong: vec![(number * 71 + 6) % 500, (number * 71 + 9) % 500],
        spans: BTreeMap::from([("subject".to_owned(), (2, 3))]),
        variables: BTreeMap::new(),
    };
    Prompt {
        task: "random".to_owned(),
        template: String::new(),
        group: number.to_string(),
        clean: version(number),
        counterfactuals: vec![version(number + 100)],
    }
}
