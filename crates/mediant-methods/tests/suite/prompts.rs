//! The reference case of interventions; prompts for tests; effects read back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mediant_artifact::{
    Artifact, ArtifactWriter, Contrast, Digest, Effects, HookFact, Kind, Prompt, ScoreRow, Version, read_scores,
};
use mediant_lm::{HfFolder, HookPoint, Model, import, load};
use mediant_methods::{About, Metric, Pairs, Recorder, Target};
use mediant_tensor::Flex;
use safetensors::SafeTensors;
use tempfile::TempDir;

/// Fixtures of the language models.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mediant-lm/tests/fixtures").join(name)
}

/// A fixture's model.
pub(crate) fn fixture_model(name: &str) -> Model<Flex> {
    let folder = TempDir::new().unwrap();
    let writer = ArtifactWriter::create(folder.path(), Kind::Model).unwrap();
    import(&HfFolder::open(&fixture(name)).unwrap(), Default::default(), writer, |_, _| Ok::<_, mediant_lm::Error>(()))
        .unwrap();
    load(&Artifact::open(folder.path()).unwrap(), &Default::default()).unwrap()
}

/// What TransformerLens computed, with its prompts.
pub(crate) struct Reference {
    pub(crate) model: Model<Flex>,
    pub(crate) arrays: BTreeMap<String, Vec<f32>>,
    prompts: Vec<Prompt>,
}

impl Reference {
    pub(crate) fn read() -> Self {
        let bytes = std::fs::read(fixture("patching/expected.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let ids = |name: &str| -> Vec<i32> {
            let data = file.tensor(name).unwrap();
            data.data().chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as i32).collect()
        };
        let (clean, corrupt, right, wrong) = (ids("clean"), ids("corrupt"), ids("right"), ids("wrong"));
        let length = clean.len() / right.len();
        let prompts = clean.chunks(length).zip(corrupt.chunks(length)).zip(right.iter().zip(&wrong));
        let prompts =
            prompts.map(|((clean, corrupt), (&right, &wrong))| prompt(clean, corrupt, right, wrong)).collect();
        let floats = file.tensors().into_iter().filter(|(_, view)| view.dtype() == safetensors::Dtype::F32);
        let arrays = floats.map(|(name, view)| {
            (name, view.data().chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect())
        });
        Self { model: fixture_model("gpt2"), arrays: arrays.collect(), prompts }
    }

    pub(crate) fn pairs(&self) -> Pairs {
        Pairs::new(self.prompts.clone(), Some(0)).unwrap()
    }

    /// Whether these are the numbers of that array, within what the issue asks for.
    pub(crate) fn assert_close(&self, name: &str, found: &[f64]) {
        let expected = &self.arrays[name];
        assert_eq!(found.len(), expected.len(), "{name}");
        let off = found.iter().zip(expected).map(|(a, b)| (a - f64::from(*b)).abs()).fold(0.0, f64::max);
        assert!(off <= 1e-4, "{name} is off by {off:e}");
    }
}

fn prompt(clean: &[i32], corrupt: &[i32], right: i32, wrong: i32) -> Prompt {
    let version = |ids: &[i32]| Version {
        text: String::new(),
        ids: ids.to_vec(),
        right: vec![right],
        wrong: vec![wrong],
        spans: BTreeMap::from([
            ("first".to_owned(), (0, 2)),
            ("last".to_owned(), (ids.len() as u32 - 1, ids.len() as u32)),
        ]),
        variables: BTreeMap::new(),
    };
    Prompt {
        task: "random".to_owned(),
        template: String::new(),
        group: format!("{right}"),
        clean: version(clean),
        counterfactuals: vec![version(corrupt)],
    }
}

/// Pairs of random tokens, of several lengths.
pub(crate) fn random_pairs(vocabulary: u64, lengths: &[usize]) -> Pairs {
    let mut draws = mediant_tensor::random::stream(0, "pairs");
    let mut id = || mediant_tensor::random::below(&mut draws, vocabulary) as i32;
    let prompts = lengths.iter().map(|&length| {
        let clean: Vec<i32> = (0..length).map(|_| id()).collect();
        let corrupt: Vec<i32> = clean.iter().enumerate().map(|(i, &old)| if i % 3 == 1 { id() } else { old }).collect();
        prompt(&clean, &corrupt, id(), id())
    });
    Pairs::new(prompts.collect(), Some(0)).unwrap()
}

/// The hook of a model.
pub(crate) fn hook(model: &Model<Flex>, name: &str) -> HookFact {
    let point: HookPoint = name.parse().unwrap();
    HookFact { name: name.to_owned(), shape: point.shape(model.config(), model.config().context) }
}

/// Effects and scores that a method gives.
#[derive(Default)]
pub(crate) struct Recorded {
    /// By mediator, then by example: clean, counterfactual, patched.
    pub(crate) effects: Vec<Vec<(f64, Option<f64>, f64)>>,
    pub(crate) scores: Vec<ScoreRow>,
}

impl Recorded {
    /// Mean patched value of each mediator.
    pub(crate) fn patched(&self) -> Vec<f64> {
        self.effects.iter().map(|of| of.iter().map(|(_, _, patched)| patched).sum::<f64>() / of.len() as f64).collect()
    }
}

/// Runs a method with a recorder into a temporary folder.
pub(crate) fn recorded(
    pairs: &Pairs,
    targets: &[Target],
    contrast: Contrast,
    method: impl FnOnce(&mut Recorder),
) -> Recorded {
    let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
    recorded_of(pairs, mediators, contrast, method)
}

/// [`recorded`] for any mediators.
pub(crate) fn recorded_of(
    pairs: &Pairs,
    mediators: Vec<mediant_artifact::Mediator>,
    contrast: Contrast,
    method: impl FnOnce(&mut Recorder),
) -> Recorded {
    let folder = TempDir::new().unwrap();
    let writer = |name: &str, kind| {
        std::fs::create_dir(folder.path().join(name)).unwrap();
        ArtifactWriter::create(&folder.path().join(name), kind).unwrap()
    };
    let about = About {
        method: "test",
        metric: Metric::LogitDiff,
        contrast,
        counterfactual: None,
        model: Digest::of(b"model"),
        prompts: Digest::of(b"prompts"),
        settings: BTreeMap::new(),
        seed: 0,
    };
    let count = mediators.len();
    let mut recorder = Recorder::new(writer("effects", Kind::Effects), about, &pairs.examples(), mediators).unwrap();
    method(&mut recorder);
    if let Err(error) = recorder.finish(writer("scores", Kind::Scores)) {
        // A method that fails, as some tests want, has recorded nothing.
        assert!(error.to_string().contains("no prompt has any of the positions"), "{error}");
        return Recorded::default();
    }
    let artifact = Artifact::open(&folder.path().join("effects")).unwrap();
    let mut effects = vec![BTreeMap::new(); count];
    for effect in Effects::open(&artifact).unwrap().rows().unwrap() {
        let effect = effect.unwrap();
        let values = (effect.clean, effect.counterfactual, effect.patched);
        assert!(effects[effect.mediator as usize].insert(effect.example, values).is_none(), "recorded twice");
    }
    let (_, scores) = read_scores(&Artifact::open(&folder.path().join("scores")).unwrap()).unwrap();
    Recorded { effects: effects.into_iter().map(|of| of.into_values().collect()).collect(), scores }
}
