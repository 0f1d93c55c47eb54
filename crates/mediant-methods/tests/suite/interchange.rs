//! Interchange interventions: what must hold whatever the model, and what a linear site gives by hand.

use std::collections::BTreeMap;

use mediant_artifact::{Prompt, Version};
use mediant_dict::{Activation, Sae, Weights};
use mediant_lm::{Batch, HookPoint, Hooks, Model, Positions, Rows, State};
use mediant_methods::interchange::{Exchange, Exchanged, Features, Featuriser, Side, Tally, interchange};
use mediant_methods::subspace::{Basis, Site, Which, gather, principal, random_basis};
use mediant_methods::{Error, Metric, Pairs};
use mediant_tensor::random::{below, stream};
use mediant_tensor::{Flex, Tensor};

use super::prompts::fixture_model;

/// Numbers of the fixtures' residual stream.
const D: usize = 48;
const VOCAB: u64 = 211;

/// Prompts of which every third has the counterfactual's answer too.
pub(crate) fn pairs(count: usize) -> Pairs {
    let mut draws = stream(0, "pairs");
    let mut id = || below(&mut draws, VOCAB) as i32;
    let prompts = (0..count).map(|i| {
        let clean: Vec<i32> = (0..5 + i % 4).map(|_| id()).collect();
        let other = clean.iter().enumerate().map(|(i, &old)| if i % 3 == 1 { id() } else { old }).collect();
        let (right, wrong, others) = (id(), id(), id());
        let version = |ids: Vec<i32>, right| Version {
            text: String::new(),
            spans: BTreeMap::from([("end".to_owned(), (ids.len() as u32 - 2, ids.len() as u32))]),
            ids,
            right: vec![right],
            wrong: vec![wrong],
            variables: BTreeMap::new(),
        };
        let clean = version(clean, right);
        let counterfactual = version(other, if i % 3 == 0 { right } else { others });
        let group = format!("{}", i % 5);
        Prompt { task: String::new(), template: String::new(), group, clean, counterfactuals: vec![counterfactual] }
    });
    Pairs::new(prompts.collect(), Some(0)).unwrap()
}

pub(crate) fn site(name: &str, positions: Positions) -> Site {
    Site { point: name.parse().unwrap(), positions }
}

/// By exchange and choice, every prompt; and the passes of each choice.
type Found = Vec<Vec<(Vec<Exchanged>, f64)>>;

fn run(model: &Model<Flex>, pairs: &Pairs, exchanges: &[Exchange<'_>]) -> Found {
    let mut found: Found = exchanges.iter().map(|exchange| vec![(Vec::new(), 0.0); exchange.sets.len()]).collect();
    interchange(
        model,
        pairs,
        exchanges,
        Metric::LogitDiff,
        |outcome| {
            let (prompts, passes) = &mut found[outcome.exchange][outcome.set];
            assert_eq!(outcome.first as usize, prompts.len());
            prompts.extend_from_slice(outcome.prompts);
            *passes = outcome.passes;
            Ok::<_, Error>(())
        },
        |_, _| Ok(()),
    )
    .unwrap();
    found
}

fn assert_same(a: &[Exchanged], b: &[Exchanged], within: f64) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a.patched - b.patched).abs() < within && (a.margin - b.margin).abs() < within, "{a:?} {b:?}");
    }
}

#[test]
fn all_of_any_basis_is_the_full_vector() {
    for name in ["gpt2", "llama", "gpt_neox"] {
        let model = fixture_model(name);
        let pairs = pairs(12);
        let width = model.config().d_model;
        let (dimensions, random) =
            (Featuriser::Dimensions, Featuriser::Directions(random_basis(width, width, 7, "basis")));
        let site = site("blocks.1.hook_resid_post", Positions::Span("end".to_owned()));
        let gathered =
            gather(&model, &pairs, Which::Clean, std::slice::from_ref(&site), |_| Ok::<_, Error>(())).unwrap();
        let components = principal(&[&gathered[0]], width).unwrap();
        let components = Featuriser::Directions(Basis::new(&components.vectors).unwrap());
        let all = || Features::Of((0..width).collect());
        let exchange = |featuriser, sets| Exchange { site: site.clone(), featuriser, sets };
        let exchanges = [
            exchange(&dimensions, vec![Features::Whole, all(), Features::Of(Vec::new())]),
            exchange(&random, vec![all()]),
            exchange(&components, vec![all()]),
        ];
        let found = run(&model, &pairs, &exchanges);
        let (whole, passes) = &found[0][0];
        assert_eq!(*passes, (model.config().n_layers as f64 - 4.0 / 3.0) / model.config().n_layers as f64);
        // f32 through the rest of the model.
        for (same, within) in [(&found[0][1], 1e-12), (&found[1][0], 2e-3), (&found[2][0], 2e-3)] {
            assert_same(whole, &same.0, within);
        }
        let (nothing, passes) = &found[0][2];
        assert!(*passes == 0.0 && nothing.iter().all(|prompt| prompt.patched == prompt.clean), "{name}");
        assert!(
            whole.iter().any(|prompt| (prompt.patched - prompt.clean).abs() > 0.01),
            "{name}: it changes something"
        );
    }
}

#[test]
fn everything_before_the_end_is_the_counterfactual_and_prompts_are_judged_by_their_side() {
    let model = fixture_model("gpt2");
    let pairs = pairs(15);
    let featuriser = Featuriser::Dimensions;
    let site = site("blocks.0.hook_resid_pre", Positions::All);
    let found = run(&model, &pairs, &[Exchange { site, featuriser: &featuriser, sets: vec![Features::Whole] }]);
    let mut tally = Tally::new(&pairs);
    tally.add(0, &found[0][0].0);
    let logits = |version: &Version| -> Vec<f32> {
        let batch = Batch::<Flex>::new(model.config(), &[&version.ids], &Default::default()).unwrap();
        let logits = model.logits_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
        logits.into_data().into_vec().unwrap()
    };
    let mut right = [0.0, 0.0];
    for (i, (prompt, exchanged)) in pairs.prompts().iter().zip(&found[0][0].0).enumerate() {
        assert!((exchanged.patched - exchanged.counterfactual).abs() < 1e-4);
        let (clean, counterfactual) = (&prompt.clean, &prompt.counterfactuals[0]);
        let logits = logits(counterfactual);
        let (expected, other, side) = match i % 3 {
            0 => (clean.right[0], clean.wrong[0], Side::Isolate),
            _ => (counterfactual.right[0], clean.right[0], Side::Cause),
        };
        let margin = f64::from(logits[expected as usize] - logits[other as usize]);
        let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).unwrap();
        assert_eq!((exchanged.side, exchanged.right, exchanged.reached), (side, margin > 0.0, true));
        assert_eq!(exchanged.top, best == expected as usize);
        assert!((exchanged.margin - margin).abs() < 1e-4);
        right[usize::from(i % 3 == 0)] += f64::from(u8::from(margin > 0.0));
    }
    let accuracies = tally.accuracies(0);
    let value = |name: &str| accuracies.iter().find(|accuracy| accuracy.name == name).unwrap().estimate.value;
    assert_eq!((value("cause"), value("isolate")), (right[0] / 10.0, right[1] / 5.0));
    assert_eq!(value("disentangle"), (right[0] / 10.0 + right[1] / 5.0) / 2.0);
    assert_eq!(value("iia"), (right[0] + right[1]) / 15.0);
    assert!(accuracies[0].n == 15 && accuracies[0].estimate.interval.is_some());
}

/// What stands at the last position of each prompt after the last norm: logits are linear in it.
fn last(model: &Model<Flex>, version: &Version) -> Vec<f64> {
    let batch = Batch::<Flex>::new(model.config(), &[&version.ids], &Default::default()).unwrap();
    let hidden = model.hidden_from(&batch, State::Start, Rows::Last, Hooks::none()).unwrap();
    hidden.into_data().into_vec::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// The row of the unembedding of one token less that of another.
fn unembedding(model: &Model<Flex>, of: i32, less: i32) -> Vec<f64> {
    let row = |id: i32| -> Tensor<Flex, 2> { model.unembedding().narrow(0, id as usize, 1) };
    let rows = (row(of) - row(less)).into_data().into_vec::<f32>().unwrap();
    rows.into_iter().map(f64::from).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn where_the_rest_is_linear_an_exchange_is_what_the_formula_says() {
    let model = fixture_model("gpt_neox");
    let pairs = pairs(9);
    let at_end = site("ln_final.hook_normalized", Positions::Last);
    assert!(matches!(at_end.point, HookPoint::FinalNormalized));
    let basis = random_basis(model.config().d_model, 6, 7, "basis");
    let featuriser = Featuriser::Directions(basis.clone());
    let sets = vec![Features::Of(vec![0, 1, 2, 3, 4, 5]), Features::Of(vec![4])];
    let found = run(&model, &pairs, &[Exchange { site: at_end, featuriser: &featuriser, sets }]);
    // The weight and bias of the last norm stand between: what they make of a difference is found from the model itself.
    for (index, chosen) in [vec![0, 1, 2, 3, 4, 5], vec![4]].iter().enumerate() {
        for (prompt, exchanged) in pairs.prompts().iter().zip(&found[0][index].0) {
            let (base, source) = (normalized(&model, &prompt.clean), normalized(&model, &prompt.counterfactuals[0]));
            let difference: Vec<f64> = source.iter().zip(&base).map(|(s, b)| s - b).collect();
            let mut moved = vec![0.0; basis.width()];
            for &vector in chosen {
                let vector: Vec<f64> = basis.vector(vector).iter().map(|x| f64::from(*x)).collect();
                let along = dot(&difference, &vector);
                moved.iter_mut().zip(&vector).for_each(|(m, v)| *m += along * v);
            }
            let weight = final_weight(&model);
            let moved: Vec<f64> = moved.iter().zip(&weight).map(|(m, w)| m * w).collect();
            let change = dot(&moved, &unembedding(&model, prompt.clean.right[0], prompt.clean.wrong[0]));
            assert!((exchanged.patched - exchanged.clean - change).abs() < 1e-3, "{exchanged:?} {change}");
        }
    }
}

fn normalized(model: &Model<Flex>, version: &Version) -> Vec<f64> {
    let batch = Batch::<Flex>::new(model.config(), &[&version.ids], &Default::default()).unwrap();
    let mut read = Vec::new();
    let mut take = |_, x: Tensor<Flex, 3>| {
        read = x.into_data().into_vec::<f32>().unwrap();
        Ok(())
    };
    model.read(&batch, Hooks::none().read([HookPoint::FinalNormalized], &mut take)).unwrap();
    read[read.len() - model.config().d_model..].iter().map(|x| f64::from(*x)).collect()
}

/// The weight of the last norm, from what it makes of a row.
fn final_weight(model: &Model<Flex>) -> Vec<f64> {
    let versions: Vec<Version> = pairs(3).prompts().iter().map(|prompt| prompt.clean.clone()).collect();
    let rows: Vec<(Vec<f64>, Vec<f64>)> = versions.iter().map(|v| (normalized(model, v), last(model, v))).collect();
    let (a, b) = (&rows[0], &rows[1]);
    (0..model.config().d_model).map(|i| (a.1[i] - b.1[i]) / (a.0[i] - b.0[i])).collect()
}

#[test]
fn latents_keep_what_the_autoencoder_does_not_reconstruct() {
    let model = fixture_model("gpt2");
    let pairs = pairs(9);
    let sae = Sae::new(Weights::init(D, 64, Some(1.0), 0), Activation::Relu, true).unwrap();
    let latents = Featuriser::Latents(Box::new(sae.clone()));
    let at = site("blocks.2.hook_resid_post", Positions::Last);
    let sets =
        vec![Features::Of((0..64).collect()), Features::Of(Vec::new()), Features::Of(vec![3, 9]), Features::Whole];
    let found = run(&model, &pairs, &[Exchange { site: at.clone(), featuriser: &latents, sets }]);
    assert!(found[0][1].0.iter().all(|prompt| prompt.patched == prompt.clean));
    assert!(found[0][2].0.iter().any(|prompt| (prompt.patched - prompt.clean).abs() > 1e-4));
    // By hand: the difference of reconstructions in the place of the activation.
    let part = |which| {
        gather(&model, &pairs, which, std::slice::from_ref(&at), |_| Ok::<_, Error>(())).unwrap().remove(0).rows
    };
    let (base, source) = (part(Which::Clean), part(Which::Counterfactual));
    let (from, to) = (sae.reconstruct(&base), sae.reconstruct(&source));
    let added: Vec<f32> = base.iter().zip(to.iter().zip(&from)).map(|(x, (to, from))| x + (to - from)).collect();
    for (index, prompt) in pairs.prompts().iter().enumerate() {
        let batch = Batch::<Flex>::new(model.config(), &[&prompt.clean.ids], &Default::default()).unwrap();
        let row = mediant_tensor::TensorData::new(added[index * D..(index + 1) * D].to_vec(), [1, 1, D]);
        let edit = mediant_lm::Replace {
            with: mediant_lm::Values::Same(Tensor::<Flex, 3>::from_data(row, &Default::default())),
            select: mediant_lm::Select::at(Positions::Last),
        };
        let hooks = Hooks::none().edit(at.point, &edit);
        let logits = model.logits_from(&batch, State::Start, Rows::Last, hooks).unwrap();
        let logits: Vec<f32> = logits.into_data().into_vec().unwrap();
        let value = logits[prompt.clean.right[0] as usize] - logits[prompt.clean.wrong[0] as usize];
        assert!((found[0][0].0[index].patched - f64::from(value)).abs() < 1e-3);
    }
    let narrow =
        Featuriser::Latents(Box::new(Sae::new(Weights::init(24, 64, None, 0), Activation::Relu, true).unwrap()));
    let exchange = [Exchange { site: at, featuriser: &narrow, sets: vec![Features::Whole] }];
    let error = interchange(&model, &pairs, &exchange, Metric::LogitDiff, |_| Ok::<_, Error>(()), |_, _| Ok(()));
    assert!(error.unwrap_err().to_string().contains("has vectors of 24 numbers"));
}

#[test]
fn sites_in_any_order_together_are_what_they_are_alone() {
    let model = fixture_model("llama");
    let pairs = pairs(10);
    let featuriser = Featuriser::Dimensions;
    let sites = [
        site("blocks.2.hook_mlp_out", Positions::Last),
        site("hook_embed", Positions::All),
        site("blocks.1.attn.hook_z", Positions::Span("end".to_owned())),
        site("blocks.1.hook_resid_mid", Positions::At(vec![6])),
    ];
    let exchange = |site: &Site| Exchange {
        site: site.clone(),
        featuriser: &featuriser,
        sets: vec![Features::Of(vec![0, 5, 7]), Features::Whole],
    };
    let together = run(&model, &pairs, &sites.iter().map(exchange).collect::<Vec<_>>());
    for (index, site) in sites.iter().enumerate() {
        let alone = run(&model, &pairs, &[exchange(site)]);
        for (a, b) in together[index].iter().zip(&alone[0]) {
            assert_same(&a.0, &b.0, 1e-4);
            assert_eq!(a.1, b.1);
        }
    }
    let reached: Vec<bool> = together[3][1].0.iter().map(|prompt| prompt.reached).collect();
    assert!(reached.iter().zip(pairs.prompts()).all(|(reached, prompt)| *reached == (prompt.clean.ids.len() > 6)));
}
