//! Weight processing: what it leaves as it is, what it changes and by how much, and that the flags go with the model.

use std::collections::BTreeMap;

use mediant_artifact::{Artifact, DType, Kind, ModelReader, ModelTokenizer, Processing};
use mediant_lm::{
    Batch, BlockSlot, Error, HfFolder, HookPoint, Hooks, LmConfig, Model, Parameter, Site, Slot, export,
    facts_from_dir, load, model_facts, save,
};
use mediant_tensor::{Flex, Tensor};
use tempfile::TempDir;

use super::support::{Expected, difference, fixture, new_writer, processed};

const FIXTURES: [&str; 6] = ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"];
const LAYER_NORM: [&str; 3] = ["gpt2", "gpt_neo", "gpt_neox"];

const NONE: Processing =
    Processing { fold_ln: false, center_writing_weights: false, center_unembed: false, fold_value_biases: false };
const FOLD_LN: Processing = Processing { fold_ln: true, ..NONE };
const WRITING: Processing = Processing { center_writing_weights: true, ..NONE };
const UNEMBED: Processing = Processing { center_unembed: true, ..NONE };
const VALUES: Processing = Processing { fold_value_biases: true, ..NONE };

/// Each step alone, and all of them, as far as the model allows.
fn allowed(name: &str) -> Vec<Processing> {
    let (writing, unembed) = (LAYER_NORM.contains(&name), name != "gemma2");
    let all =
        Processing { fold_ln: true, center_writing_weights: writing, center_unembed: unembed, fold_value_biases: true };
    let mut steps = vec![FOLD_LN, VALUES, all];
    steps.extend(writing.then_some(WRITING));
    steps.extend(unembed.then_some(UNEMBED));
    steps
}

fn model(name: &str, processing: Processing) -> Model<Flex> {
    let work = TempDir::new().unwrap();
    load(&processed(&fixture(name), processing, work.path()), &Default::default()).unwrap()
}

/// Every hook's activation; rows of the logits as log-probabilities.
fn activations(model: &Model<Flex>, name: &str) -> BTreeMap<HookPoint, Vec<f32>> {
    let batch = Batch::new(model.config(), &Expected::of(name).sequences(), &model.device()).unwrap();
    let mut all = BTreeMap::new();
    let mut take = |point: HookPoint, x: Tensor<Flex, 3>| {
        all.insert(point, x.into_data().into_vec::<f32>().unwrap());
        Ok(())
    };
    model.read(&batch, Hooks::none().read(model.config().hooks(), &mut take)).unwrap();
    for row in all.get_mut(&HookPoint::Logits).unwrap().chunks_exact_mut(model.config().vocab_size) {
        let sum = row.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln() as f32;
        row.iter_mut().for_each(|x| *x -= sum);
    }
    all
}

/// Rows of `width` numbers less their mean.
fn centered(values: &[f32], width: usize) -> Vec<f32> {
    let rows = values.chunks_exact(width).flat_map(|row| {
        let mean = (row.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64) as f32;
        row.iter().map(move |x| x - mean)
    });
    rows.collect()
}

fn parameters(model: &Model<Flex>) -> BTreeMap<Slot, Vec<f32>> {
    model.parameters().into_iter().map(|(slot, parameter)| (slot, parameter.into_values())).collect()
}

#[test]
fn log_probabilities_stay_what_they_are() {
    for name in FIXTURES {
        let before = activations(&model(name, NONE), name);
        for processing in allowed(name) {
            let after = activations(&model(name, processing), name);
            let off = difference(&after[&HookPoint::Logits], &before[&HookPoint::Logits]);
            assert!(off <= 1e-4, "{name}, {processing:?}: log-probabilities are off by {off:e}");
        }
    }
}

#[test]
fn the_residual_stream_loses_its_mean_and_nothing_else() {
    for name in FIXTURES {
        let before = activations(&model(name, NONE), name);
        for processing in allowed(name) {
            let model = model(name, processing);
            let width = model.config().d_model;
            let after = activations(&model, name);
            let residual = after
                .iter()
                .filter(|(point, _)| matches!(point.site(), Some(Site::ResidPre | Site::ResidMid | Site::ResidPost)));
            for (point, after) in residual {
                let before = &before[point];
                let expected = if processing.center_writing_weights { centered(before, width) } else { before.clone() };
                let off = difference(after, &expected);
                assert!(off <= 1e-4, "{name}, {processing:?}: {point} is off by {off:e}");
            }
        }
    }
}

#[test]
fn what_attention_looks_at_stays() {
    for name in FIXTURES {
        let before = activations(&model(name, NONE), name);
        for processing in allowed(name) {
            let after = activations(&model(name, processing), name);
            for (point, after) in after.iter().filter(|(point, _)| point.site() == Some(Site::Pattern)) {
                let off = difference(after, &before[point]);
                assert!(off <= 1e-5, "{name}, {processing:?}: {point} is off by {off:e}");
            }
        }
    }
}

#[test]
fn each_step_leaves_the_weights_it_promises() {
    let zero_mean = |values: &[f32], width| {
        let means = values.chunks_exact(width).map(|row| row.iter().sum::<f32>() / width as f32);
        means.fold(0.0, |most, mean| mean.abs().max(most)) < 1e-6
    };
    for name in FIXTURES {
        for processing in allowed(name) {
            let model = model(name, processing);
            let config = model.config().clone();
            let parameters = parameters(&model);
            for (slot, values) in &parameters {
                let named = slot.to_string();
                let folded = processing.fold_ln && named.contains("ln") && !named.contains("post");
                if folded {
                    let identity = if named.ends_with("weight") { 1.0 } else { 0.0 };
                    assert!(values.iter().all(|x| *x == identity), "{name}: {slot}");
                }
                let written =
                    ["embed.weight", "pos_embed.weight", "out.weight", "out.bias", "down.weight", "down.bias"];
                let written = written.iter().any(|end| named == *end || named.ends_with(&format!(".{end}")));
                if processing.center_writing_weights && written && *slot != Slot::Unembed {
                    assert!(zero_mean(values, config.d_model), "{name}: {slot}");
                }
            }
            if processing.center_unembed {
                let unembed = &parameters[&Slot::Unembed];
                let columns = (0..config.d_model).flat_map(|d| unembed.iter().skip(d).step_by(config.d_model).copied());
                assert!(zero_mean(&columns.collect::<Vec<_>>(), config.vocab_size), "{name}");
            }
            if processing.fold_value_biases && config.biases.qkv {
                let values = config.n_kv_heads * config.d_head;
                for layer in 0..config.n_layers {
                    let bias = &parameters[&Slot::Block(layer, BlockSlot::QkvBias)];
                    assert!(bias[bias.len() - values..].iter().all(|x| *x == 0.0), "{name}");
                    assert!(bias[..bias.len() - values].iter().any(|x| *x != 0.0), "{name}");
                }
            }
        }
    }
}

#[test]
fn biases_and_unembeddings_appear_where_they_are_needed() {
    let config = |name, processing| {
        let folder = HfFolder::open(&fixture(name)).unwrap();
        folder.config().processed(processing).unwrap()
    };
    let neo = config("gpt_neo", NONE);
    assert!(!neo.biases.qkv && neo.tied && !neo.biases.unembed);
    let neo = config("gpt_neo", FOLD_LN);
    assert!(neo.biases.qkv && !neo.tied && neo.biases.unembed);
    assert!(config("gpt_neo", VALUES).tied && !config("gpt_neo", VALUES).biases.qkv);
    assert!(!config("gpt2", WRITING).tied, "the embedding is centred, the unembedding is not");
    let llama = config("llama", FOLD_LN);
    assert!(!llama.biases.qkv && !llama.biases.unembed);
    assert!(config("qwen2", VALUES).biases.out, "the biases of values need a place");
    let gemma = config("gemma2", FOLD_LN);
    assert!(!gemma.tied && gemma.slots().contains(&Slot::Block(0, BlockSlot::PostNorm1Weight)));
    assert_eq!(neo.slots().len(), config("gpt_neo", NONE).slots().len() + neo.n_layers + 2);
}

#[test]
fn steps_that_would_change_the_model_are_refused() {
    let refused = |name: &str, processing| match facts_from_dir(&fixture(name), processing).unwrap_err() {
        Error::Processing { step, why } => format!("{step} {why}"),
        other => panic!("{other}"),
    };
    for name in ["llama", "qwen2", "gemma2"] {
        assert!(refused(name, WRITING).starts_with("center_writing_weights needs LayerNorm"));
    }
    assert!(refused("gemma2", UNEMBED).contains("soft cap"));
}

#[test]
fn the_flags_go_with_the_model() {
    for name in FIXTURES {
        for processing in allowed(name) {
            let work = TempDir::new().unwrap();
            let artifact = processed(&fixture(name), processing, &work.path().join("a"));
            let reader = ModelReader::open(&artifact).unwrap();
            let config = LmConfig::of_artifact(&reader.meta).unwrap();
            assert_eq!((reader.meta.processing, config.processing), (processing, processing));
            assert_eq!(reader.meta.parameters, config.parameters());
            let names: Vec<_> = config.slots().iter().map(Slot::to_string).collect();
            assert!(reader.tensors.names().eq(&names), "{name}");
            assert!(reader.tensors.infos().all(|info| info.dtype == DType::F32));
            assert_eq!(
                facts_from_dir(&fixture(name), processing).unwrap(),
                model_facts(&config, ModelTokenizer::Absent),
                "what the plan says is what comes"
            );
            assert_eq!(model_facts(&config, ModelTokenizer::Absent).processing, processing);

            // From the device and back: the same artifact but for the config.json, which is written anew.
            let model: Model<Flex> = load(&artifact, &Default::default()).unwrap();
            assert_eq!(model.config(), &config);
            let writer = new_writer(&work.path().join("b"), Kind::Model).unwrap();
            save(&model, &reader.meta.config, &[], writer).unwrap();
            let saved = Artifact::open(&work.path().join("b")).unwrap();
            assert_eq!(ModelReader::open(&saved).unwrap().meta, reader.meta);
            let again: Model<Flex> = load(&saved, &Default::default()).unwrap();
            assert_eq!(parameters(&again), parameters(&model));

            let error = export(&artifact, &work.path().join("hf")).unwrap_err().to_string();
            assert!(error.contains("were processed") && !work.path().join("hf").exists(), "{error}");
        }
    }
}

#[test]
fn values_that_processing_takes_beyond_f32_are_reported() {
    let mut tensors = super::shards::checkpoint("gpt2");
    let mut set = |name: &str| {
        let bytes = &mut tensors.get_mut(name).unwrap().bytes;
        bytes[..4].copy_from_slice(&1e30_f32.to_le_bytes());
    };
    set("transformer.h.1.ln_1.weight");
    set("transformer.h.1.attn.c_attn.weight");
    let folder = super::shards::folder("gpt2", serde_json::json!({}), &tensors);
    let work = TempDir::new().unwrap();
    let writer = new_writer(&work.path().join("a"), Kind::Model).unwrap();
    let hf = HfFolder::open(folder.path()).unwrap();
    let error = mediant_lm::import(&hf, FOLD_LN, writer, |_, _| Ok::<_, Error>(())).unwrap_err().to_string();
    assert!(error.contains("`blocks.1.attn.qkv.weight`") && error.contains("index 0"), "{error}");
}

#[test]
fn parameters_of_the_unprocessed_model_do_not_fit() {
    let plain = model("gpt_neo", NONE);
    let config = plain.config().processed(FOLD_LN).unwrap();
    let parameters: Vec<(Slot, Parameter<Flex>)> = plain.parameters();
    assert!(Model::new(config, parameters).unwrap_err().to_string().contains("blocks.0.attn.qkv.bias"));
}
