//! Models of modular addition: their own layout, no mask, attention that is a share of softmax.

use std::fs;
use std::path::Path;

use mediant_artifact::{ModelTokenizer, NormFacts, Processing};
use mediant_lm::{
    Batch, HookPoint, Hooks, LmConfig, Model, Rows, Sampling, Site, State, Until, export, facts_from_dir, generate,
    load,
};
use mediant_tensor::Flex;
use mediant_tensor::random::{fill_normal, stream};
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::support::{difference, imported};

const C: usize = 7;
const D: usize = 8;
const HEADS: usize = 2;
const LAYERS: usize = 2;

fn config(share: f64) -> Value {
    json!({
        "name": "modadd_7", "funcs": "lambda x: (x[0]+x[1])%7", "C": C, "n_heads": HEADS, "d_model": D, "n_layers": LAYERS,
        "attention_dir": "casual", "act_fn": "ReLU", "epoch": 10, "batch_size": 49, "lr": 0.001, "weight_decay": 2.0, "frac": 0.8,
        "attn_coeff": share, "runid": "x", "diff_vocab": false, "eqn_sign": 0, "func": null
    })
}

/// Tensors as the files have them, of random numbers.
fn tensors() -> Vec<(String, Vec<usize>, Vec<f32>)> {
    let (head, mlp) = (D / HEADS, 4 * D);
    let mut shapes = vec![
        ("embed.W_E".to_owned(), vec![D, C]),
        ("pos_embed.W_pos".to_owned(), vec![2, D]),
        ("unembed.W_U".to_owned(), vec![D, C]),
    ];
    for layer in 0..LAYERS {
        let of = |name: &str| format!("blocks.{layer}.{name}");
        shapes.extend(["attn.W_Q", "attn.W_K", "attn.W_V"].map(|name| (of(name), vec![HEADS, head, D])));
        shapes.extend([
            (of("attn.W_O"), vec![D, D]),
            (of("mlp.W_in"), vec![mlp, D]),
            (of("mlp.b_in"), vec![mlp]),
            (of("mlp.W_out"), vec![D, mlp]),
            (of("mlp.b_out"), vec![D]),
        ]);
    }
    let filled = |(name, shape): (String, Vec<usize>)| {
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(&mut stream(0, &name), &mut values, 0.0, 0.3);
        (name, shape, values)
    };
    shapes.into_iter().map(filled).collect()
}

fn write(folder: &Path, config: &Value) {
    fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let tensors = tensors();
    let views = tensors.iter().map(|(name, shape, values)| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
    });
    fs::write(folder.join("model.safetensors"), serialize(views, None).unwrap()).unwrap();
}

fn model(share: f64) -> (TempDir, Model<Flex>) {
    let work = TempDir::new().unwrap();
    write(work.path(), &config(share));
    let artifact = imported(work.path(), &work.path().join("artifact"));
    let model = load(&artifact, &Default::default()).unwrap();
    (work, model)
}

/// `rows of x · transpose of a matrix [out, in]`
fn linear(x: &[f64], matrix: &[f32]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum()).collect()
}

/// The logits after the second number, written out after the paper.
fn reference(share: f64, pair: [usize; 2]) -> Vec<f32> {
    let tensors = tensors();
    let get = |name: &str| &tensors.iter().find(|tensor| tensor.0 == name).unwrap().2;
    let column = |name: &str, c: usize| (0..D).map(|i| f64::from(get(name)[i * C + c])).collect::<Vec<_>>();
    let mut x: Vec<Vec<f64>> = vec![column("embed.W_E", pair[0]), column("embed.W_E", pair[1])];
    for (at, row) in x.iter_mut().enumerate() {
        row.iter_mut().enumerate().for_each(|(i, x)| *x += f64::from(get("pos_embed.W_pos")[at * D + i]));
    }
    for layer in 0..LAYERS {
        let of = |name: &str| get(&format!("blocks.{layer}.{name}"));
        let part = |name: &str| x.iter().map(|row| linear(row, of(name))).collect::<Vec<_>>();
        let (q, k, v) = (part("attn.W_Q"), part("attn.W_K"), part("attn.W_V"));
        let head = D / HEADS;
        for (at, row) in x.iter_mut().enumerate() {
            let mut z = vec![0.0; D];
            for h in 0..HEADS {
                let dims = h * head..(h + 1) * head;
                let score = |key: &Vec<f64>| {
                    let product: f64 = dims.clone().map(|i| q[at][i] * key[i]).sum();
                    (product / (head as f64).sqrt()).exp()
                };
                let total: f64 = k.iter().map(score).sum();
                for (key, value) in k.iter().zip(&v) {
                    let weight = share * score(key) / total + (1.0 - share);
                    dims.clone().for_each(|i| z[i] += weight * value[i]);
                }
            }
            row.iter_mut().zip(linear(&z, of("attn.W_O"))).for_each(|(x, out)| *x += out);
        }
        for row in &mut x {
            let mut hidden = linear(row, of("mlp.W_in"));
            hidden.iter_mut().zip(of("mlp.b_in")).for_each(|(h, b)| *h = (*h + f64::from(*b)).max(0.0));
            let out = linear(&hidden, of("mlp.W_out"));
            row.iter_mut().zip(out.iter().zip(of("mlp.b_out"))).for_each(|(x, (out, b))| *x += out + f64::from(*b));
        }
    }
    (0..C).map(|c| column("unembed.W_U", c).iter().zip(&x[1]).map(|(w, x)| w * x).sum::<f64>() as f32).collect()
}

#[test]
fn every_pair_gives_the_numbers_of_the_paper() {
    for share in [0.0, 0.35, 1.0] {
        let (_work, model) = model(share);
        let pairs: Vec<[i32; 2]> = (0..C as i32).flat_map(|a| (0..C as i32).map(move |b| [a, b])).collect();
        let ids: Vec<&[i32]> = pairs.iter().map(<[i32; 2]>::as_slice).collect();
        let batch = Batch::new(model.config(), &ids, &Default::default()).unwrap();
        let logits = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        let logits: Vec<f32> = logits.into_data().into_vec().unwrap();
        let all = pairs.iter().flat_map(|pair| reference(share, pair.map(|number| number as usize)));
        let off = difference(&logits, &all.collect::<Vec<_>>());
        assert!(off < 1e-4, "{share}: {off}");
    }
}

#[test]
fn the_first_position_sees_the_second_and_weights_sum_to_more_than_one() {
    let (_work, model) = model(0.35);
    let batch = Batch::new(model.config(), &[&[1, 2]], &Default::default()).unwrap();
    let point = HookPoint::Block(0, Site::Pattern);
    let mut pattern: Vec<f32> = Vec::new();
    let mut take = |_, x: mediant_tensor::Tensor<Flex, 3>| {
        pattern = x.into_data().into_vec().unwrap();
        Ok(())
    };
    model.read(&batch, Hooks::none().read([point], &mut take)).unwrap();
    for row in pattern.chunks_exact(2) {
        assert!(row.iter().all(|weight| *weight > 0.65) && (row[0] + row[1] - 1.65).abs() < 1e-5, "{row:?}");
    }
}

#[test]
fn a_folder_is_known_by_its_config_and_comes_back_as_it_was() {
    let (work, model) = model(0.35);
    let facts = facts_from_dir(work.path(), Processing::default()).unwrap();
    assert_eq!(
        (facts.architecture.as_str(), facts.vocab_size, facts.context, facts.d_mlp),
        ("modular_addition", C, 2, 4 * D)
    );
    assert!(facts.norms == NormFacts::Absent && matches!(facts.tokenizer, ModelTokenizer::Known(_)));
    assert_eq!(facts.parameters, tensors().iter().map(|tensor| tensor.2.len() as u64).sum::<u64>());
    let out = work.path().join("out");
    export(&mediant_artifact::Artifact::open(&work.path().join("artifact")).unwrap(), &out).unwrap();
    let read = |folder: &Path| fs::read(folder.join("model.safetensors")).unwrap();
    let (before, after) = (read(work.path()), read(&out));
    let (before, after) = (SafeTensors::deserialize(&before).unwrap(), SafeTensors::deserialize(&after).unwrap());
    for (name, tensor) in before.tensors() {
        let again = after.tensor(&name).unwrap();
        assert_eq!((again.shape(), again.data()), (tensor.shape(), tensor.data()), "{name}");
    }
    assert_eq!(facts_from_dir(&out, Processing::default()).unwrap(), facts);
    let tokenizer = mediant_lm::text::Tokenizer::new(&fs::read(out.join("tokenizer.json")).unwrap(), None).unwrap();
    assert_eq!(tokenizer.encode("3 5").unwrap().ids, [3, 5]);
    // What needs a model that predicts every token has none here.
    let batch = Batch::new(model.config(), &[&[1, 2]], &Default::default()).unwrap();
    assert!(model.losses(&batch, Hooks::none()).unwrap_err().to_string().contains("the next token too"));
    let until = Until { tokens: 1, stop: None };
    let text =
        generate(&model, &[vec![1]], &Sampling::default(), &until, 0, Hooks::none, |_| Ok::<_, mediant_lm::Error>(()));
    assert!(text.unwrap_err().to_string().contains("the next token too"));
}

#[test]
fn what_is_not_built_is_refused_by_name() {
    for (field, value) in [
        ("attn_coeff", json!(1.5)),
        ("attn_coeff", json!("half")),
        ("act_fn", json!("GeLU")),
        ("attention_dir", json!("mean")),
        ("diff_vocab", json!(true)),
        ("eqn_sign", json!(1)),
        ("n_heads", json!(3)),
        ("C", json!(0)),
        ("dropout", json!(0.1)),
    ] {
        let mut config = config(0.5);
        config[field] = value;
        let error = LmConfig::from_json(&config).unwrap_err().to_string();
        assert!(error.contains(if field == "C" { "vocabulary" } else { field }), "{field}: {error}");
    }
    let processing = Processing { fold_ln: true, ..Processing::default() };
    assert!(LmConfig::from_json(&config(0.5)).unwrap().processed(processing).is_err());
}
