//! Norms that are frozen, and norms that are part of the weights.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mediant_artifact::{Artifact, Kind, ModelReader, ModelTokenizer, NormFacts, Norms, Processing};
use mediant_lm::{
    Batch, BlockNorm, Differentiable, Edit, Frozen, HfFolder, HookPoint, Hooks, LmConfig, Model, NormSite, NormStates,
    Positions, Replace, Result, Rows, Select, Site, State, Values, export, facts_from_dir, fold_norms, frozen_facts,
    load, save,
};
use mediant_tensor::{Autodiff, Flex, Tensor, TensorData, ops};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{
    difference, fixture, freeze, frozen_apart, gpt2_json, imported, llama_json, neox_json, new_writer, processed,
    random_ids, random_model,
};

fn logits(model: &Model<Flex>, batch: &Batch<Flex>, hooks: Hooks<'_, Flex>) -> Vec<f32> {
    model.logits_from(batch, State::Start, Rows::All, hooks).unwrap().into_data().into_vec().unwrap()
}

fn of_ids(model: &Model<Flex>, ids: &[&[i32]]) -> Vec<f32> {
    let batch = Batch::new(model.config(), ids, &model.device()).unwrap();
    logits(model, &batch, Hooks::none())
}

/// Logits of some sequences of ids below 60.
fn some_logits(model: &Model<Flex>) -> Vec<f32> {
    let (a, b) = (random_ids(60, 13, 1), random_ids(60, 5, 2));
    of_ids(model, &[&a, &b])
}

fn saved(model: &Model<Flex>, json: &Value, folder: &Path) -> Artifact {
    save(model, json, &[], new_writer(folder, Kind::Model).unwrap()).unwrap();
    Artifact::open(folder).unwrap()
}

fn loaded(artifact: &Artifact) -> Model<Flex> {
    load(artifact, &Default::default()).unwrap()
}

/// A fixture's `config.json` and its model, with all norms frozen at scales of their own.
fn frozen_fixture(name: &str) -> (Value, Model<Flex>) {
    let work = TempDir::new().unwrap();
    let json = serde_json::from_slice(&fs::read(fixture(name).join("config.json")).unwrap()).unwrap();
    (json, frozen_apart(&loaded(&imported(&fixture(name), work.path()))))
}

/// The scale that each norm computes for the one row of a batch.
fn computed(model: &Model<Flex>, batch: &Batch<Flex>) -> BTreeMap<NormSite, f32> {
    let config = model.config();
    let layers = config.n_layers;
    let last = HookPoint::Block(layers - 1, Site::ResidPost);
    let inputs = (0..layers).flat_map(|layer| [Site::ResidPre, Site::MlpIn].map(|site| HookPoint::Block(layer, site)));
    let mut scales = BTreeMap::new();
    let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
        let x = x.reshape([1, config.d_model]);
        let scale = ops::norm_scales(x, config.norm == mediant_lm::NormKind::Layer, config.norm_eps).into_scalar();
        let sites = match point {
            HookPoint::Block(layer, Site::ResidPre) => {
                vec![NormSite::Block(layer, BlockNorm::QueryKey), NormSite::Block(layer, BlockNorm::Value)]
            }
            HookPoint::Block(layer, Site::MlpIn) => vec![NormSite::Block(layer, BlockNorm::Mlp)],
            _ => vec![NormSite::Final],
        };
        scales.extend(sites.into_iter().map(|site| (site, scale)));
        Ok(())
    };
    model.read(batch, Hooks::none().read(inputs.chain([last]), &mut take)).unwrap();
    scales
}

#[test]
fn a_norm_frozen_at_the_scale_it_computes_is_the_same_norm() {
    for json in [gpt2_json(2, 32, 4, 60, 40), llama_json(2, 32, 4, 2, 60, 40), neox_json(2, 32, 4, 60, 40)] {
        let model = random_model(&json, 1);
        let batch = Batch::new(model.config(), &[&[7]], &model.device()).unwrap();
        let scales = computed(&model, &batch);
        assert_eq!(scales.len(), model.config().norm_sites().len());
        let frozen = freeze(&model, scales);
        assert_eq!(logits(&frozen, &batch, Hooks::none()), logits(&model, &batch, Hooks::none()));
        assert_ne!(of_ids(&frozen, &[&[8]]), of_ids(&model, &[&[8]]));
    }
}

#[test]
fn folded_weights_give_the_logits_of_frozen_norms() {
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2"] {
        let work = TempDir::new().unwrap();
        let (json, frozen) = frozen_fixture(name);
        let artifact = saved(&frozen, &json, &work.path().join("frozen"));
        fold_norms(&artifact, new_writer(&work.path().join("folded"), Kind::Model).unwrap()).unwrap();
        let folded = Artifact::open(&work.path().join("folded")).unwrap();
        assert_eq!(ModelReader::open(&folded).unwrap().meta.norms, Norms::Absent);
        let model = loaded(&folded);
        let (ours, theirs) = (some_logits(&model), some_logits(&frozen));
        // Of random weights with random scales; the largest logit is far from 1.
        let largest = theirs.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        let off = difference(&ours, &theirs);
        assert!(off < 2e-5 * largest, "{name}: {off} of {largest}");
        let has = |model: &Model<Flex>, end: &str| model.config().hooks().iter().any(|h| h.to_string().ends_with(end));
        assert!(!has(&model, "hook_scale") && !has(&model, "hook_normalized") && has(&frozen, "ln1.hook_normalized"));
        assert!(!model.parameters().iter().any(|(slot, _)| slot.to_string().contains("ln")));

        // Its folder is no other model's, and gives it back.
        export(&folded, &work.path().join("folder")).unwrap();
        let again = imported(&work.path().join("folder"), &work.path().join("again"));
        assert_eq!(some_logits(&loaded(&again)), some_logits(&model));
        let facts = facts_from_dir(&work.path().join("folder"), Processing::default()).unwrap();
        assert_eq!((facts.norms, facts.processing.fold_ln), (NormFacts::Absent, true));
        let config = fs::read_to_string(work.path().join("folder/config.json")).unwrap();
        assert!(config.contains("\"model_type\": \"mediant_folded\""));
        let steps = Processing { center_unembed: true, ..Processing::default() };
        let error = HfFolder::open(&work.path().join("folder")).unwrap().facts(steps).unwrap_err().to_string();
        assert!(error.contains("`center_unembed` cannot be done to a model without norms"), "{error}");
        // Once more is once too often.
        let error = fold_norms(&folded, new_writer(&work.path().join("twice"), Kind::Model).unwrap()).unwrap_err();
        assert!(error.to_string().contains("part of its weights already"), "{error}");
    }
}

#[test]
fn the_folder_for_stock_code_is_known_by_its_epsilon_and_gives_the_model_back() {
    for (name, eps) in [
        ("gpt2", "layer_norm_epsilon"),
        ("gpt_neox", "layer_norm_eps"),
        ("llama", "rms_norm_eps"),
        ("qwen2", "rms_norm_eps"),
    ] {
        let work = TempDir::new().unwrap();
        let (json, frozen) = frozen_fixture(name);
        let artifact = saved(&frozen, &json, &work.path().join("frozen"));
        let folder = work.path().join("folder");
        export(&artifact, &folder).unwrap();
        let config: Value = serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap();
        assert_eq!(config[eps], 1e12);

        // A plain model of these tensors with that epsilon, as stock code has it, gives the same logits.
        let plain = plain_model(&folder, &config);
        let off = difference(&some_logits(&plain), &some_logits(&frozen));
        assert!(off < 1e-3, "{name} as stock code computes it: {off}");

        let again = imported(&folder, &work.path().join("again"));
        assert_eq!(ModelReader::open(&again).unwrap().meta.norms, ModelReader::open(&artifact).unwrap().meta.norms);
        let off = difference(&some_logits(&loaded(&again)), &some_logits(&frozen));
        assert!(off < 1e-4, "{name} loaded again: {off}");
        for ((slot, a), (_, b)) in frozen.parameters().into_iter().zip(loaded(&again).parameters()) {
            assert!(difference(&a.into_values(), &b.into_values()) < 1e-5, "{name}: {slot}");
        }
        // Folding on the way in, with the norms left frozen.
        let steps = Processing { fold_ln: true, center_unembed: true, ..Processing::default() };
        let steps = processed(&folder, steps, &work.path().join("processed"));
        let probabilities = |model: &Model<Flex>| {
            let logits = Tensor::<Flex, 1>::from_floats(&some_logits(model)[..], &Default::default());
            let logits = logits.reshape([18, model.config().vocab_size]);
            let all = mediant_tensor::burn::tensor::activation::log_softmax(logits, 1);
            all.into_data().into_vec::<f32>().unwrap()
        };
        let off = difference(&probabilities(&loaded(&steps)), &probabilities(&frozen));
        assert!(off < 1e-4, "{name} processed: {off}");

        // Without the scales beside it, as others write it, every scale is 1.
        let mut bare = config.clone();
        bare.as_object_mut().unwrap().remove("mediant_norm_scales");
        fs::write(folder.join("config.json"), bare.to_string()).unwrap();
        let bare = imported(&folder, &work.path().join("bare"));
        let model = loaded(&bare);
        assert_eq!(model.config().norms.frozen(NormSite::Final), Some(1.0));
        let off = difference(&some_logits(&model), &some_logits(&frozen));
        assert!(off < 1e-3, "{name} from elsewhere: {off}");
    }
}

/// What the tensors of a folder say, without what Mediant knows of its epsilon.
fn plain_model(folder: &Path, config: &Value) -> Model<Flex> {
    let work = TempDir::new().unwrap();
    let mut json = config.clone();
    json.as_object_mut().unwrap().remove("mediant_norm_scales");
    for eps in ["layer_norm_epsilon", "layer_norm_eps", "rms_norm_eps"] {
        if json.get(eps).is_some() {
            json[eps] = json!(1e-5);
        }
    }
    fs::write(work.path().join("config.json"), json.to_string()).unwrap();
    fs::copy(folder.join("model.safetensors"), work.path().join("model.safetensors")).unwrap();
    let live = loaded(&imported(work.path(), &work.path().join("artifact")));
    Model::new(LmConfig { norm_eps: 1e12, ..live.config().clone() }, live.parameters()).unwrap()
}

#[test]
fn what_stock_code_cannot_compute_is_refused() {
    let work = TempDir::new().unwrap();
    let json = gpt2_json(2, 32, 4, 60, 40);
    let model = random_model(&json, 1);
    let partly = freeze(&model, BTreeMap::from([(NormSite::Block(0, BlockNorm::Mlp), 2.0)]));
    let artifact = saved(&partly, &json, &work.path().join("partly"));
    let error = export(&artifact, &work.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("`blocks.0.ln1.qk` among them, are live"), "{error}");
    let error = fold_norms(&artifact, new_writer(&work.path().join("a"), Kind::Model).unwrap()).unwrap_err();
    assert!(error.to_string().contains("the norm `blocks.0.ln1.qk` is live"), "{error}");

    // GPT-Neo's queries and keys have no bias to take what the two scales make of the norm's.
    let (json, frozen) = frozen_fixture("gpt_neo");
    let artifact = saved(&frozen, &json, &work.path().join("neo"));
    let error = export(&artifact, &work.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("layer 0 read a norm at another scale than its values, and have no bias"), "{error}");
    assert!(!work.path().join("out").exists());
}

#[test]
fn states_that_no_model_can_have_are_refused() {
    let json = gpt2_json(2, 32, 4, 60, 40);
    let work = TempDir::new().unwrap();
    let artifact = saved(&random_model(&json, 1), &json, work.path());
    let reader = ModelReader::open(&artifact).unwrap();
    let refusal = |norms: Norms| {
        let mut meta = reader.meta.clone();
        meta.norms = norms;
        LmConfig::of_artifact(&meta).unwrap_err().to_string()
    };
    let at = |name: &str, scale: f32| refusal(Norms::Frozen(BTreeMap::from([(name.to_owned(), scale)])));
    assert!(at("blocks.2.ln2", 1.0).contains("no norm `blocks.2.ln2`"));
    assert!(at("blocks.0.ln3", 1.0).contains("not the name of a norm"));
    assert!(at("ln_final", 0.0).contains("not a number above zero"));
    assert!(at("ln_final", f32::NAN).contains("not a number above zero"));
    assert!(refusal(Norms::Absent).contains("that its weights do not hold"));
    let config = |scales: Value| {
        let mut json = json.clone();
        json["layer_norm_epsilon"] = json!(1e12);
        json["mediant_norm_scales"] = scales;
        LmConfig::from_json(&json).unwrap_err().to_string()
    };
    assert!(config(json!({"ln_final": 1.0})).contains("has no scale for `blocks.0.ln1.qk`"));
    assert!(config(json!({"ln_final": "1"})).contains("not a number"));
    assert!(config(json!(3)).contains("is not a mapping"));
    let mut live = json.clone();
    live["mediant_norm_scales"] = json!({});
    assert!(LmConfig::from_json(&live).unwrap_err().to_string().contains("mediant_norm_scales"));
    let folded = |value: Value| LmConfig::from_json(&value).unwrap_err().to_string();
    let processing = serde_json::to_value(Processing::default()).unwrap();
    assert!(folded(json!({"model_type": "mediant_folded"})).contains("`base` is missing"));
    let unfolded = json!({"model_type": "mediant_folded", "base": json, "processing": processing});
    assert!(folded(unfolded).contains("does not fold the norms"));
}

#[test]
fn states_are_recorded_and_come_back() {
    let json = gpt2_json(2, 32, 4, 60, 40);
    let model = random_model(&json, 1);
    let sites = [NormSite::Block(0, BlockNorm::Mlp), NormSite::Block(1, BlockNorm::QueryKey)];
    let partly = freeze(&model, sites.into_iter().zip([0.1, 3.3]).collect());
    let work = TempDir::new().unwrap();
    let artifact = saved(&partly, &json, work.path());
    let config = LmConfig::of_artifact(&ModelReader::open(&artifact).unwrap().meta).unwrap();
    assert_eq!(config, *partly.config());
    let facts = mediant_lm::model_facts(&config, ModelTokenizer::Absent);
    assert_eq!(facts.norms, NormFacts::PartlyFrozen(sites.map(|site| site.to_string()).into()));
    assert_eq!(facts.hook("blocks.1.ln1.hook_scale").unwrap().shape, [2, 1]);
    assert_eq!(facts.hook("blocks.0.ln1.hook_normalized").unwrap().shape, [32]);
    assert_eq!(some_logits(&loaded(&artifact)), some_logits(&partly));
}

#[test]
fn facts_tell_what_is_frozen_after_a_step() {
    let live = mediant_lm::model_facts(random_model(&gpt2_json(2, 32, 4, 60, 40), 1).config(), ModelTokenizer::Absent);
    // Before the first norm is frozen nothing has changed.
    assert_eq!(frozen_facts(&live, &BTreeMap::new()).unwrap(), live);
    let (first, second) = (NormSite::Block(1, BlockNorm::Mlp), NormSite::Final);
    let partly = frozen_facts(&live, &[(first, 3)].into()).unwrap();
    assert_eq!(partly.norms, NormFacts::PartlyFrozen(vec![first.to_string()]));
    assert_eq!(frozen_facts(&partly, &BTreeMap::new()).unwrap(), partly);
    let both = frozen_facts(&partly, &[(second, 5)].into()).unwrap();
    assert_eq!(both.norms, NormFacts::PartlyFrozen(vec![first.to_string(), second.to_string()]));
    let blocks = (0..2).flat_map(|layer| BlockNorm::ALL.map(|norm| NormSite::Block(layer, norm)));
    let all = blocks.chain([NormSite::Final]).map(|site| (site, 1)).collect();
    assert_eq!(frozen_facts(&live, &all).unwrap().norms, NormFacts::Frozen);
}

/// Doubles what it gets.
struct Twice;

impl Edit<Flex> for Twice {
    fn apply(&self, _: HookPoint, x: Tensor<Flex, 3>, _: &Batch<Flex>) -> Result<Tensor<Flex, 3>> {
        Ok(x * 2.0)
    }
}

#[test]
fn hooks_inside_frozen_norms_see_and_set_their_scales() {
    let model = random_model(&gpt2_json(2, 32, 4, 60, 40), 1);
    let frozen = frozen_apart(&model);
    let ids = random_ids(60, 9, 1);
    let batch = Batch::new(frozen.config(), &[&ids], &frozen.device()).unwrap();
    let plain = logits(&frozen, &batch, Hooks::none());
    let scale = |site| frozen.config().norms.frozen(site).unwrap();
    let in_first = |norm| NormSite::Block(1, norm);
    let mut seen = BTreeMap::new();
    let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
        seen.insert(point, (x.dims(), x.into_data().into_vec::<f32>().unwrap()));
        Ok(())
    };
    let points = frozen.config().hooks();
    let read = logits(&frozen, &batch, Hooks::none().read(points.clone(), &mut take));
    assert_eq!(read, plain, "reading changes nothing");
    for (point, (dims, _)) in &seen {
        let shape = point.shape(frozen.config(), 9);
        assert_eq!(dims[1..].iter().product::<usize>(), shape.iter().product::<usize>(), "{point}");
    }
    let both = [scale(in_first(BlockNorm::QueryKey)), scale(in_first(BlockNorm::Value))];
    assert_ne!(both[0], both[1]);
    assert_eq!(seen[&HookPoint::Block(1, Site::Ln1Scale)].1, both.repeat(9));
    assert_eq!(seen[&HookPoint::Block(1, Site::Ln2Scale)].1, [scale(in_first(BlockNorm::Mlp)); 9]);
    assert_eq!(seen[&HookPoint::FinalScale].1, [scale(NormSite::Final); 9]);

    // Another scale of values alone is another model's.
    let ln1 = HookPoint::Block(1, Site::Ln1Scale);
    let raised = both[1] + 1.0;
    let edit = Replace {
        with: Values::Same(Tensor::from_data(TensorData::new(vec![0.0, raised], [1, 2, 1]), &frozen.device())),
        select: Select { heads: Some(vec![1]), ..Select::default() },
    };
    let edited = logits(&frozen, &batch, Hooks::none().edit(ln1, &edit));
    let NormStates::Present(mut scales) = frozen.config().norms.clone() else { panic!() };
    scales.insert(in_first(BlockNorm::Value), raised);
    let other = logits(&freeze(&model, scales), &batch, Hooks::none());
    assert!(difference(&edited, &other) < 1e-5 && difference(&edited, &plain) > 1e-3);

    // Freezing what is frozen changes nothing, whatever is changed before it.
    let frozen_edit = Frozen::new(&frozen, vec![ln1], Positions::All);
    let before = HookPoint::Block(0, Site::MlpOut);
    let changed = logits(&frozen, &batch, Hooks::none().edit(before, &Twice));
    let held = logits(&frozen, &batch, Hooks::none().edit(before, &Twice).edit(ln1, &frozen_edit));
    assert!(difference(&changed, &held) < 1e-5 && difference(&changed, &plain) > 1e-3);
}

#[test]
fn the_last_rows_alone_are_the_same_as_among_all() {
    for model in [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 1)] {
        let model = frozen_apart(&model);
        let ids = random_ids(60, 9, 1);
        let batch = Batch::new(model.config(), &[&ids, &ids[..4]], &model.device()).unwrap();
        let all = logits(&model, &batch, Hooks::none());
        let last = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        let last: Vec<f32> = last.into_data().into_vec().unwrap();
        assert!(difference(&last[..60], &all[8 * 60..9 * 60]) < 1e-5);
        assert!(difference(&last[60..], &all[12 * 60..]) < 1e-5);
    }
}

#[test]
fn gradients_go_through_frozen_norms() {
    let models = [random_model(&gpt2_json(2, 32, 4, 60, 40), 1), random_model(&llama_json(2, 32, 4, 2, 60, 40), 1)];
    for model in models.iter().map(frozen_apart) {
        let ids = random_ids(60, 6, 1);
        let batch = Batch::new(model.config(), &[&ids], &model.device()).unwrap();
        let point = HookPoint::Block(0, Site::ResidPre);
        let metric = |logits: Tensor<Autodiff<Flex>, 2>| {
            let metric = logits.clone().narrow(1, 3, 1) - logits.narrow(1, 5, 1);
            Ok(metric.reshape([1]))
        };
        let (mut at, mut gradient) = (Vec::new(), Vec::new());
        let mut take = |_: HookPoint, x: Tensor<Flex, 3>, g: Tensor<Flex, 3>| {
            at = x.into_data().into_vec::<f32>().unwrap();
            gradient = g.into_data().into_vec::<f32>().unwrap();
            Ok(())
        };
        let differentiable = Differentiable::new(&model).unwrap();
        differentiable.gradients(&batch, State::Start, &[], &[point], &metric, &mut take).unwrap();
        let value = |by: f32| {
            let moved: Vec<f32> = at.iter().zip(&gradient).map(|(x, g)| x + by * g).collect();
            let moved = Tensor::from_data(TensorData::new(moved, [6, 1, 32]), &model.device());
            let put = Replace { with: Values::Rows(moved), select: Select::default() };
            let logits = logits(&model, &batch, Hooks::none().edit(point, &put));
            f64::from(logits[5 * 60 + 3]) - f64::from(logits[5 * 60 + 5])
        };
        let square: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        let step = 1e-2 / square.sqrt() as f32;
        let slope = (value(step) - value(-step)) / (2.0 * f64::from(step));
        // Roundings of 1e-6 over a step of 1e-2, and the third derivative.
        assert!((slope / square - 1.0).abs() < 3e-3, "{slope} is not {square}");
    }
}
