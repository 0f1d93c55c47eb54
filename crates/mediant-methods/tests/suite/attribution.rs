//! Gradients, attribution patching and integrated gradients against TransformerLens, and where they must equal exact patching.

use std::collections::BTreeMap;

use mediant_artifact::{Contrast, HookFact};
use mediant_lm::{
    Batch, Differentiable, HookPoint, Hooks, Model, Positions, Replace, Rows, Select, Site, State, Values,
};
use mediant_methods::{
    By, Direction, EdgeMethod, Error, Graph, Metric, Pairs, Reference as Run, Rule, Slope, Target, attribute,
    edge_contrast, edge_effects, patch, targets,
};
use mediant_tensor::{Flex, Tensor};

use super::prompts::{Recorded, Reference, fixture_model, hook, random_pairs, recorded, recorded_of};

fn done(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

fn targets_of(hooks: &[HookFact], by: &[By], pairs: &Pairs) -> Vec<Target> {
    targets(hooks, Some(by), &Positions::All, &[], pairs).unwrap()
}

fn attributed(model: &Model<Flex>, pairs: &Pairs, targets: &[Target], slope: Slope) -> Recorded {
    recorded(pairs, targets, slope.contrast(), |recorder| {
        attribute(model, pairs, targets, slope, Metric::LogitDiff, recorder, done).unwrap();
    })
}

/// Mean over examples of what was predicted beyond the counterfactual value.
fn gains(found: &Recorded) -> Vec<f64> {
    let gain = |of: &Vec<(f64, Option<f64>, f64)>| of.iter().map(|e| e.2 - e.1.unwrap()).sum::<f64>() / of.len() as f64;
    found.effects.iter().map(gain).collect()
}

#[test]
fn attribution_patching_is_that_of_transformer_lens() {
    let reference = Reference::read();
    let (model, pairs) = (&reference.model, reference.pairs());
    let hooks = |site: &str| -> Vec<_> { (0..3).map(|l| hook(model, &format!("blocks.{l}.{site}"))).collect() };
    let cases = [
        ("resid_pre", "hook_resid_pre", By::Position),
        ("attn_out", "hook_attn_out", By::Position),
        ("mlp_out", "hook_mlp_out", By::Position),
        ("head_z", "attn.hook_z", By::Head),
    ];
    for (name, site, by) in cases {
        let found = attributed(model, &pairs, &targets_of(&hooks(site), &[by], &pairs), Slope::At(Run::Counterfactual));
        reference.assert_close(&format!("attribution_patching.{name}"), &gains(&found));
    }
    let heads = targets_of(&hooks("attn.hook_z"), &[By::Head], &pairs);
    let found = attributed(model, &pairs, &heads, Slope::OverActivations(Rule::Midpoint, 8));
    reference.assert_close("integrated_gradients.head_z", &gains(&found));
}

#[test]
fn gradients_are_those_of_central_differences() {
    const STEP: f32 = 1e-2;
    for name in ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2", "gemma2"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[6, 9]);
        let pair = pairs.batch::<Flex>(0..2, model.config(), &model.device()).unwrap();
        let value = |hooks: Hooks<'_, Flex>| -> Vec<f64> {
            let logits = model.logits_from(&pair.clean, State::Start, Rows::Last, hooks).unwrap();
            Metric::LogitDiff.values(logits, &pair.answers).unwrap()
        };
        let last = model.config().n_layers - 1;
        let sites =
            [Site::ResidPre, Site::QInput, Site::V, Site::Z, Site::Result, Site::AttnOut, Site::MlpIn, Site::MlpPost];
        let points = sites.into_iter().flat_map(|site| [HookPoint::Block(0, site), HookPoint::Block(last, site)]);
        let points: Vec<_> = [HookPoint::Embed, HookPoint::FinalNormalized].into_iter().chain(points).collect();
        let metric = |logits| Ok(Metric::LogitDiff.of(logits, &pair.answers));
        let mut found: Vec<(HookPoint, Tensor<Flex, 3>, Tensor<Flex, 3>)> = Vec::new();
        let mut take = |point, x, gradient| {
            found.push((point, x, gradient));
            Ok(())
        };
        let differentiable = Differentiable::new(&model).unwrap();
        differentiable.gradients(&pair.clean, State::Start, &[], &points, &metric, &mut take).unwrap();
        assert_eq!(found.len(), points.len());
        for (point, x, gradient) in found {
            let shape = x.dims();
            let gradient: Vec<f32> = gradient.into_data().into_vec().unwrap();
            let largest = gradient.iter().fold(0.0f64, |m, g| m.max(f64::from(g.abs())));
            let x: Vec<f32> = x.into_data().into_vec().unwrap();
            // The last row of the first sequence, and the first of the second.
            for row in [5, 6] {
                let at = row * shape[1] * shape[2] + shape[1] * shape[2] / 2;
                let moved = |by: f32| {
                    let mut x = x.clone();
                    x[at] += by;
                    let data = mediant_tensor::TensorData::new(x, shape);
                    let with = Values::Rows(Tensor::from_data(data, &model.device()));
                    let edit = Replace { with, select: Select::default() };
                    value(Hooks::none().edit(point, &edit)).iter().sum::<f64>()
                };
                let difference = (moved(STEP) - moved(-STEP)) / (2.0 * f64::from(STEP));
                let error = (difference - f64::from(gradient[at])).abs();
                // Third derivatives times STEP²/6, and f32 logits of about 10 rounded and divided by the step.
                assert!(error <= 5e-3 * largest.max(1.0), "{name} {point} row {row}: {difference} {}", gradient[at]);
            }
        }
    }
}

#[test]
fn integrated_gradients_are_complete() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12, 9]);
    for point in ["blocks.1.hook_resid_pre", "blocks.2.hook_resid_pre"] {
        let whole = targets_of(&[hook(&model, point)], &[], &pairs);
        let found = attributed(&model, &pairs, &whole, Slope::OverActivations(Rule::Midpoint, 64));
        for &(clean, corrupted, predicted) in &found.effects[0] {
            let (difference, error) = (clean - corrupted.unwrap(), (predicted - clean).abs());
            assert!(error <= 0.01 * difference.abs(), "{point}: off by {error} of {difference}");
        }
    }
}

#[test]
fn where_the_rest_is_linear_attribution_is_exact() {
    // From the last norm's result on the logits are linear.
    for name in ["gpt2", "llama", "gpt_neox"] {
        let model = fixture_model(name);
        let pairs = random_pairs(211, &[7, 12]);
        let whole = targets_of(&[hook(&model, "ln_final.hook_normalized")], &[By::Position], &pairs);
        let exact = recorded(&pairs, &whole, Contrast::Restored, |recorder| {
            patch(&model, &pairs, &whole, Direction::Denoising, Metric::LogitDiff, recorder, done).unwrap();
        });
        let slopes = [
            Slope::At(Run::Counterfactual),
            Slope::OverActivations(Rule::Left, 3),
            Slope::OverEmbeddings(Rule::Midpoint, 2),
        ];
        for slope in slopes {
            let found = attributed(&model, &pairs, &whole, slope);
            for (found, exact) in found.patched().iter().zip(exact.patched()) {
                assert!((found - exact).abs() < 1e-4, "{name} {slope:?}: {found} {exact}");
            }
        }
    }
}

#[test]
fn both_references_predict_in_their_own_direction() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12]);
    let whole = targets_of(&[hook(&model, "ln_final.hook_normalized")], &[], &pairs);
    let found = attributed(&model, &pairs, &whole, Slope::At(Run::Clean));
    for &(_, corrupted, predicted) in &found.effects[0] {
        assert!((predicted - corrupted.unwrap()).abs() < 1e-4, "noising everything gives the counterfactual value");
    }
    assert!((found.scores[0].value - 1.0).abs() < 1e-4);
}

fn edges(model: &Model<Flex>, pairs: &Pairs, method: EdgeMethod) -> Recorded {
    let graph = Graph::new(model.config()).unwrap();
    recorded_of(pairs, graph.mediators(), edge_contrast(method), |recorder| {
        edge_effects(model, pairs, &graph, method, Metric::LogitDiff, recorder, done).unwrap();
    })
}

#[test]
fn the_graph_is_that_of_eap() {
    // n_forward = 1 + L(H + 1), n_backward = L(3H + 1) + 1 (EAP-IG's code), 3 layers of 4 heads.
    let graph = Graph::new(fixture_model("gpt2").config()).unwrap();
    let names: Vec<String> = graph.mediators().into_iter().map(|edge| edge.name).collect();
    let of_layer = |l: usize| (1 + 5 * l) * 12 + (1 + 5 * l + 4);
    assert_eq!(names.len(), (0..3).map(of_layer).sum::<usize>() + 16);
    for edge in ["input->a0.h0<q>", "m0->a1.h2<k>", "m2->logits", "a1.h3->m1", "input->logits"] {
        assert!(names.iter().any(|name| name == edge), "{edge}");
    }
    assert!(!names.iter().any(|name| name == "a1.h3->a1.h2<q>" || name == "m1->m1"));
    let parallel = Graph::new(fixture_model("gpt_neox").config()).unwrap();
    assert!(!parallel.mediators().iter().any(|edge| edge.name == "a1.h3->m1"), "heads do not feed their own MLP");
    assert!(Graph::new(fixture_model("gemma2").config()).is_err());
}

/// What every node writes in the clean run less what it writes in the other, and the slope at every receiver, by name: `[rows · d_model]`.
type ByName = BTreeMap<String, Vec<f64>>;

fn nodes_and_slopes(model: &Model<Flex>, pairs: &Pairs) -> (ByName, ByName) {
    let config = model.config();
    let (layers, heads, kv_heads) = (config.n_layers, config.n_heads, config.n_kv_heads);
    let pair = pairs.batch::<Flex>(0..pairs.prompts().len(), config, &model.device()).unwrap();
    let at = |layer, site| HookPoint::Block(layer, site);
    let writes = (0..layers).flat_map(|layer| [Site::Z, Site::MlpOut].map(|site| at(layer, site)));
    let writes: Vec<HookPoint> = [HookPoint::Embed].into_iter().chain(writes).collect();
    let run = |batch: &Batch<Flex>| {
        let mut read = BTreeMap::new();
        let mut take = |point, x| {
            read.insert(point, x);
            Ok(())
        };
        model.read(batch, Hooks::none().read(writes.iter().copied(), &mut take)).unwrap();
        read
    };
    // A unit of `[rows, units, d_model]`.
    let unit = |x: &Tensor<Flex, 3>, unit: usize| -> Vec<f64> {
        x.clone().narrow(1, unit, 1).into_data().iter::<f32>().map(f64::from).collect()
    };
    let (clean, other) = (run(&pair.clean), run(pair.counterfactual.as_ref().unwrap()));
    let mut nodes = ByName::new();
    for (point, x) in &clean {
        let difference = x.clone() - other[point].clone();
        match point {
            HookPoint::Block(layer, Site::Z) => {
                let written = model.head_results(*layer, difference);
                nodes.extend((0..heads).map(|head| (format!("a{layer}.h{head}"), unit(&written, head))));
            }
            HookPoint::Block(layer, _) => drop(nodes.insert(format!("m{layer}"), unit(&difference, 0))),
            _ => drop(nodes.insert("input".to_owned(), unit(&difference, 0))),
        }
    }
    let reads = [Site::QInput, Site::KInput, Site::VInput, Site::MlpIn];
    let reads = (0..layers).flat_map(|layer| reads.map(|site| at(layer, site)));
    let reads: Vec<HookPoint> = reads.chain([at(layers - 1, Site::ResidPost)]).collect();
    let mut slopes = ByName::new();
    let mut take = |point: HookPoint, _, gradient: Tensor<Flex, 3>| {
        let HookPoint::Block(layer, site) = point else { return Ok(()) };
        let of_heads = |letter: &str, heads: usize| -> Vec<(String, Vec<f64>)> {
            (0..heads).map(|head| (format!("a{layer}.h{head}<{letter}>"), unit(&gradient, head))).collect()
        };
        slopes.extend(match site {
            Site::QInput => of_heads("q", heads),
            Site::KInput => of_heads("k", kv_heads),
            Site::VInput => of_heads("v", kv_heads),
            Site::MlpIn => vec![(format!("m{layer}"), unit(&gradient, 0))],
            _ => vec![("logits".to_owned(), unit(&gradient, 0))],
        });
        Ok(())
    };
    let metric = |logits| Ok(Metric::LogitDiff.of(logits, &pair.answers));
    let model = Differentiable::new(model).unwrap();
    model.gradients(&pair.clean, State::Start, &[], &reads, &metric, &mut take).unwrap();
    (nodes, slopes)
}

#[test]
fn an_edge_attributes_what_its_node_writes_times_the_slope_of_its_receiver() {
    // Keys and values by group in llama; MLPs beside attention in gpt_neox.
    for name in ["gpt2", "llama", "gpt_neox"] {
        let model = fixture_model(name);
        let lengths = [7, 12];
        let pairs = random_pairs(211, &lengths);
        let found = edges(&model, &pairs, EdgeMethod::Attribution(Slope::At(Run::Clean)));
        let (nodes, slopes) = nodes_and_slopes(&model, &pairs);
        let mediators = Graph::new(model.config()).unwrap().mediators();
        assert_eq!(mediators.len(), found.effects.len());
        for (edge, effects) in mediators.iter().zip(&found.effects) {
            let (node, slope) = (&nodes[edge.source.as_ref().unwrap()], &slopes[edge.target.as_ref().unwrap()]);
            let mut products = node.iter().zip(slope).map(|(a, b)| a * b);
            for (&(clean, _, predicted), length) in effects.iter().zip(lengths) {
                let sum: f64 = products.by_ref().take(length * model.config().d_model).sum();
                // Both are of single-precision activations and slopes, whose products are added up in another order.
                assert!(
                    (clean - predicted - sum).abs() < 1e-5 * (1.0 + sum.abs()),
                    "{name} {}: {clean} - {predicted}, {sum}",
                    edge.name
                );
            }
        }
    }
}

#[test]
fn edges_rank_about_as_exact_patching_says() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[7, 12]);
    let exact = edges(&model, &pairs, EdgeMethod::Exact);
    for slope in [Slope::At(Run::Clean), Slope::OverEmbeddings(Rule::Left, 5)] {
        let found = edges(&model, &pairs, EdgeMethod::Attribution(slope));
        let correlation = spearman(&losses(&exact), &losses(&found));
        assert!(correlation > 0.5, "{slope:?}: {correlation}");
    }
}

fn losses(found: &Recorded) -> Vec<f64> {
    found.effects.iter().map(|of| of.iter().map(|e| e.0 - e.2).sum::<f64>() / of.len() as f64).collect()
}

fn spearman(a: &[f64], b: &[f64]) -> f64 {
    let ranks = |values: &[f64]| -> Vec<f64> {
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
        let mut ranks = vec![0.0; values.len()];
        order.into_iter().enumerate().for_each(|(rank, i)| ranks[i] = rank as f64);
        ranks
    };
    let (a, b) = (ranks(a), ranks(b));
    let mean = (a.len() as f64 - 1.0) / 2.0;
    let covariance: f64 = a.iter().zip(&b).map(|(a, b)| (a - mean) * (b - mean)).sum();
    let variance: f64 = a.iter().map(|a| (a - mean) * (a - mean)).sum();
    covariance / variance
}

#[test]
fn a_batch_gives_each_prompt_its_own_gradient() {
    let model = fixture_model("llama");
    let ids: Vec<Vec<i32>> = vec![vec![3, 5, 7, 9], vec![11, 2, 4]];
    let point = HookPoint::Block(1, Site::ResidPre);
    let gradient = |sequences: &[&[i32]]| -> Vec<f32> {
        let batch = Batch::new(model.config(), sequences, &model.device()).unwrap();
        let metric = |logits: Tensor<mediant_tensor::Autodiff<Flex>, 2>| Ok(logits.narrow(1, 5, 1).reshape([-1]));
        let mut all = Vec::new();
        let mut take = |_, _, gradient: Tensor<Flex, 3>| {
            all = gradient.into_data().into_vec().unwrap();
            Ok(())
        };
        let differentiable = Differentiable::new(&model).unwrap();
        differentiable.gradients(&batch, State::Start, &[], &[point], &metric, &mut take).unwrap();
        all
    };
    let together = gradient(&[&ids[0], &ids[1]]);
    let apart = [gradient(&[&ids[0]]), gradient(&[&ids[1]])].concat();
    assert!(together.iter().zip(&apart).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn keys_that_a_query_does_not_see_attribute_nothing() {
    let model = fixture_model("gpt2");
    let pairs = random_pairs(211, &[6, 9]);
    let scores = targets_of(&[hook(&model, "blocks.1.attn.hook_attn_scores")], &[By::Head], &pairs);
    for slope in [Slope::At(Run::Clean), Slope::OverActivations(Rule::Midpoint, 4)] {
        let found = attributed(&model, &pairs, &scores, slope);
        assert!(found.scores.iter().all(|row| row.value.is_finite() && row.value != 0.0), "{:?}", found.scores);
    }
}
