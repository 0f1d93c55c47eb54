//! Sets of mediators: where each must equal something simpler.

use mediant_artifact::{Contrast, Mediator};
use mediant_dict::{Activation, Extra, Sae, Weights};
use mediant_lm::Model;
use mediant_methods::mediators::{
    Family, ItemSet, MediatorKind, Outside, Selection, Spliced, attribute_latents, benchmark_sizes, evaluate_sets,
    greedy, latent_mediators, random_order,
};
use mediant_methods::standings::{Curve, Sums};
use mediant_methods::{
    Direction, EdgeMethod, Error, Graph, Metric, Pairs, Reference, Slope, Target, edge_effects, patch,
};
use mediant_tensor::Flex;
use mediant_tensor::random::{fill_normal, stream};

use super::prompts::{Recorded, fixture_model, hook, random_pairs, recorded, recorded_of};

/// f32 sums of a few layers in another order.
const CLOSE: f64 = 2e-4;

pub(super) const MODELS: [&str; 5] = ["gpt2", "gpt_neo", "gpt_neox", "llama", "qwen2"];

fn done(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

/// Prompts that end in the token that their counterfactuals end in, so that nothing clean goes straight to the logits.
pub(super) fn pairs() -> Pairs {
    random_pairs(211, &[7, 12, 9])
}

fn targets_of(model: &Model<Flex>, kind: MediatorKind, pairs: &Pairs) -> Vec<Target> {
    let sites = ["attn.hook_z", "hook_attn_out", "mlp.hook_post", "hook_mlp_out", "hook_resid_post"];
    let layers = 0..model.config().n_layers;
    let hooks: Vec<_> = layers.flat_map(|l| sites.map(|site| hook(model, &format!("blocks.{l}.{site}")))).collect();
    kind.targets(&hooks, pairs).unwrap()
}

pub(super) fn mediators(model: &Model<Flex>, kind: MediatorKind, pairs: &Pairs) -> Vec<Mediator> {
    match kind {
        MediatorKind::Edges => Graph::new(model.config()).unwrap().mediators(),
        _ => targets_of(model, kind, pairs).into_iter().map(|target| target.mediator).collect(),
    }
}

pub(super) fn family(model: &Model<Flex>, mediators: &[Mediator], outside: Outside) -> Family {
    Family::new(&mediators.iter().collect::<Vec<_>>(), model.config(), outside, None).unwrap()
}

fn measured(model: &Model<Flex>, pairs: &Pairs, family: &Family, sets: &[ItemSet]) -> Recorded {
    let named =
        (0..sets.len()).map(|i| Mediator { name: i.to_string(), kind: "set".to_owned(), ..Mediator::default() });
    recorded_of(pairs, named.collect(), Contrast::Restored, |recorder| {
        let sets: Vec<&ItemSet> = sets.iter().collect();
        evaluate_sets(model, pairs, family, &sets, Metric::LogitDiff, recorder, done).unwrap();
    })
}

/// Clean, counterfactual and patched values of a set, by example.
fn values(found: &Recorded, set: usize) -> Vec<(f64, f64, f64)> {
    found.effects[set].iter().map(|(clean, other, patched)| (*clean, other.unwrap(), *patched)).collect()
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < CLOSE, "{what}: {found} {expected}");
    }
}

#[test]
fn everything_is_the_clean_run_and_nothing_the_counterfactual_one() {
    for name in MODELS {
        let (model, pairs) = (fixture_model(name), pairs());
        for kind in [MediatorKind::Sublayers, MediatorKind::Nodes, MediatorKind::Edges] {
            let family = family(&model, &mediators(&model, kind, &pairs), Outside::Counterfactual);
            let sets = [ItemSet::none(family.len()), ItemSet::all(family.len())];
            let found = measured(&model, &pairs, &family, &sets);
            for ((clean, other, nothing), (_, _, everything)) in values(&found, 0).into_iter().zip(values(&found, 1)) {
                assert!((nothing - other).abs() < CLOSE, "{name} {kind:?}: {nothing} {other}");
                assert!((everything - clean).abs() < CLOSE, "{name} {kind:?}: {everything} {clean}");
                assert!((clean - other).abs() > 10.0 * CLOSE, "the prompts do not differ");
            }
        }
    }
}

#[test]
fn what_is_live_outside_a_family_makes_everything_the_clean_run() {
    let (model, pairs) = (fixture_model("gpt2"), pairs());
    for kind in [MediatorKind::Heads, MediatorKind::Neurons] {
        let mediators = mediators(&model, kind, &pairs);
        let all = |outside| {
            let family = family(&model, &mediators, outside);
            let found = measured(&model, &pairs, &family, &[ItemSet::all(family.len())]);
            values(&found, 0)
        };
        for (clean, _, live) in all(Outside::Live) {
            assert!((live - clean).abs() < CLOSE, "{kind:?}: {live} {clean}");
        }
        let covered = all(Outside::Counterfactual);
        assert!(covered.iter().any(|(clean, _, covered)| (covered - clean).abs() > 10.0 * CLOSE), "{kind:?}");
    }
}

#[test]
fn all_but_one_item_is_that_item_patched() {
    for name in MODELS {
        let (model, pairs) = (fixture_model(name), pairs());
        for kind in [MediatorKind::Sublayers, MediatorKind::Heads, MediatorKind::Neurons] {
            let mut targets = targets_of(&model, kind, &pairs);
            // Of many neurons, some.
            let every = targets.len().div_ceil(12);
            targets = targets.into_iter().step_by(every).collect();
            let mediators: Vec<Mediator> = targets.iter().map(|target| target.mediator.clone()).collect();
            let family = family(&model, &mediators, Outside::Live);
            let sets: Vec<ItemSet> =
                (0..targets.len()).map(|item| ItemSet::from_items(targets.len(), [item]).complement()).collect();
            let found = measured(&model, &pairs, &family, &sets);
            let expected = recorded(&pairs, &targets, Contrast::Lost, |recorder| {
                patch(&model, &pairs, &targets, Direction::Noising, Metric::LogitDiff, recorder, done).unwrap();
            });
            assert_close(&found.patched(), &expected.patched(), &format!("{name} {kind:?}"));
        }
    }
}

#[test]
fn all_but_one_edge_is_that_edge_patched() {
    for name in MODELS {
        let (model, pairs) = (fixture_model(name), pairs());
        let graph = Graph::new(model.config()).unwrap();
        let family = family(&model, &graph.mediators(), Outside::Counterfactual);
        let edges = family.len();
        let sets: Vec<ItemSet> = (0..edges).map(|edge| ItemSet::from_items(edges, [edge]).complement()).collect();
        let found = measured(&model, &pairs, &family, &sets);
        let expected = recorded_of(&pairs, graph.mediators(), Contrast::Lost, |recorder| {
            edge_effects(&model, &pairs, &graph, EdgeMethod::Exact, Metric::LogitDiff, recorder, done).unwrap();
        });
        assert_close(&found.patched(), &expected.patched(), name);
    }
}

/// The name of a head or an MLP in the graph of EAP.
pub(super) fn node_name(node: &Mediator) -> String {
    match (node.layer, node.unit) {
        (Some(layer), Some(head)) => format!("a{layer}.h{head}"),
        (layer, _) => format!("m{}", layer.unwrap()),
    }
}

#[test]
fn a_set_of_nodes_is_the_set_of_the_edges_that_leave_them() {
    for name in MODELS {
        let (model, pairs) = (fixture_model(name), pairs());
        let nodes = mediators(&model, MediatorKind::Nodes, &pairs);
        let edges = Graph::new(model.config()).unwrap().mediators();
        let (of_nodes, of_edges) =
            (family(&model, &nodes, Outside::Counterfactual), family(&model, &edges, Outside::Counterfactual));
        let (mut node_sets, mut edge_sets) = (Vec::new(), Vec::new());
        for kept in 0..12u32 {
            let chosen: Vec<usize> = (0..nodes.len()).filter(|i| (i * 7 + 3) as u32 % 12 <= kept).collect();
            let names: Vec<String> = chosen.iter().map(|&node| node_name(&nodes[node])).collect();
            let leaves = |edge: &Mediator| {
                let source = edge.source.as_deref().unwrap();
                source == "input" || names.iter().any(|name| name == source)
            };
            let left: Vec<usize> = (0..edges.len()).filter(|&i| leaves(&edges[i])).collect();
            let input = edges.iter().filter(|edge| edge.source.as_deref() == Some("input")).count();
            node_sets.push(ItemSet::from_items(nodes.len(), chosen));
            edge_sets.push(ItemSet::from_items(edges.len(), left));
            let weighted = of_nodes.weighted_edges(&node_sets[node_sets.len() - 1]).unwrap();
            assert_eq!(weighted as usize + input, edge_sets[edge_sets.len() - 1].len(), "{name}");
        }
        let found = measured(&model, &pairs, &of_nodes, &node_sets);
        let expected = measured(&model, &pairs, &of_edges, &edge_sets);
        assert_close(&found.patched(), &expected.patched(), name);
    }
}

/// An autoencoder of random weights, which reconstructs badly.
fn random_sae(width: usize, d_sae: usize) -> Sae {
    let mut rng = stream(3, "sae");
    let mut draw = |n: usize| {
        let mut values = vec![0.0; n];
        fill_normal(&mut rng, &mut values, 0.0, 0.3);
        values
    };
    let weights = Weights {
        d_in: width,
        d_out: width,
        d_sae,
        w_enc: draw(width * d_sae),
        b_enc: draw(d_sae),
        w_dec: draw(width * d_sae),
        b_dec: draw(width),
        w_skip: None,
        extra: Extra::None,
    };
    Sae::new(weights, Activation::Relu, true).unwrap()
}

pub(super) fn spliced(model: &Model<Flex>, at: &str) -> Spliced {
    let point = at.parse().unwrap();
    Spliced { sae: random_sae(model.config().d_model, 40), reads: point, writes: point }
}

#[test]
fn latents_and_the_error_are_all_that_a_residual_stream_is() {
    for name in ["gpt2", "llama"] {
        let (model, pairs) = (fixture_model(name), pairs());
        let spliced = spliced(&model, "blocks.1.hook_resid_post");
        let mediators = latent_mediators(&spliced);
        let items: Vec<&Mediator> = mediators.iter().collect();
        let family = Family::new(&items, model.config(), Outside::Counterfactual, Some(spliced)).unwrap();
        let sets =
            [ItemSet::none(41), ItemSet::all(41), ItemSet::from_items(41, 0..40), ItemSet::from_items(41, 40..41)];
        let found = measured(&model, &pairs, &family, &sets);
        for example in 0..3 {
            let of = |set| values(&found, set)[example];
            let (clean, other, nothing) = of(0);
            assert!((nothing - other).abs() < CLOSE, "{name}: {nothing} {other}");
            assert!((of(1).2 - clean).abs() < CLOSE, "{name}: {} {clean}", of(1).2);
            assert!(
                (of(2).2 - clean).abs() > CLOSE && (of(3).2 - other).abs() > CLOSE,
                "{name}: the error does nothing"
            );
        }
    }
}

#[test]
fn attribution_is_patching_where_the_model_is_linear() {
    // Nothing but the unembedding lies above the last residual stream of a model whose norms are frozen.
    let (model, pairs) = (super::experiments::with_frozen_norms(), random_pairs(31, &[7, 12, 9]));
    let last = model.config().n_layers - 1;
    let spliced = spliced(&model, &format!("blocks.{last}.hook_resid_post"));
    let mediators = latent_mediators(&spliced);
    let items: Vec<&Mediator> = mediators.iter().collect();
    let family = Family::new(&items, model.config(), Outside::Counterfactual, Some(spliced.clone())).unwrap();
    let sets: Vec<ItemSet> = (0..41).map(|item| ItemSet::from_items(41, [item]).complement()).collect();
    let exact = measured(&model, &pairs, &family, &sets);
    let predicted = recorded_of(&pairs, mediators.clone(), Contrast::Lost, |recorder| {
        let slope = Slope::At(Reference::Clean);
        attribute_latents(&model, &pairs, &spliced, slope, Metric::LogitDiff, recorder, done).unwrap();
    });
    for (predicted, exact) in predicted.patched().iter().zip(exact.patched()) {
        // Logits of these weights are differences of f32 sums in the thousands; latents change them by more than 0.1, as is seen below.
        assert!((predicted - exact).abs() < 1e-5 * exact.abs().max(100.0), "{predicted} {exact}");
    }
    let clean: Vec<f64> = predicted.effects[0].iter().map(|effect| effect.0).collect();
    let changed =
        predicted.patched().iter().filter(|patched| (*patched - clean.iter().sum::<f64>() / 3.0).abs() > 0.1).count();
    assert!(changed > 10, "{changed} latents do anything");
}

#[test]
fn greedy_takes_the_best_first() {
    let (model, pairs) = (fixture_model("gpt2"), pairs());
    let mediators = mediators(&model, MediatorKind::Sublayers, &pairs);
    let family = family(&model, &mediators, Outside::Counterfactual);
    let found = greedy(&model, &pairs, &family, Metric::LogitDiff, done).unwrap();
    let of = mediators.len();
    assert_eq!((found.taken.len(), found.passes), (of, 2.0 + (of * (of + 1) / 2) as f64));
    let alone: Vec<ItemSet> = (0..of).map(|item| ItemSet::from_items(of, [item])).collect();
    let alone = measured(&model, &pairs, &family, &alone);
    let best = alone.scores.iter().map(|score| score.value).fold(f64::NEG_INFINITY, f64::max);
    assert!((found.taken[0].1 - best).abs() < 1e-9);
    assert!((found.taken[of - 1].1 - 1.0).abs() < 1e-3);
}

#[test]
fn scores_that_are_shuffled_are_worth_what_random_ones_are() {
    let (model, pairs) = (fixture_model("gpt2"), pairs());
    let family = family(&model, &mediators(&model, MediatorKind::Edges, &pairs), Outside::Counterfactual);
    let of = family.len();
    let faithfulness = |sets: &[ItemSet]| -> Vec<f64> {
        let found = measured(&model, &pairs, &family, sets);
        let of_set = |set: usize| {
            let (above, below) = values(&found, set)
                .into_iter()
                .fold((0.0, 0.0), |(above, below), (clean, other, kept)| (above + kept - other, below + clean - other));
            above / below
        };
        (0..sets.len()).map(of_set).collect()
    };
    let without: Vec<ItemSet> = (0..of).map(|item| ItemSet::from_items(of, [item]).complement()).collect();
    let scores: Vec<f64> = faithfulness(&without).into_iter().map(|left| 1.0 - left).collect();
    let order = |scores: &[f64]| Selection::Signed.order(scores);
    let shuffled = (0..40).map(|seed| order(&random_order(of, seed, 0).iter().map(|&i| scores[i]).collect::<Vec<_>>()));
    let random = (0..100).map(|draw| random_order(of, 77, draw));
    let orders: Vec<Vec<usize>> = [order(&scores)].into_iter().chain(shuffled).chain(random).collect();
    let sizes: Vec<usize> = [0].into_iter().chain(benchmark_sizes(of)).collect();
    let sets: Vec<ItemSet> = orders
        .iter()
        .flat_map(|order| sizes.iter().map(|size| ItemSet::from_items(of, order[..*size].iter().copied())))
        .collect();
    let area = |f: &[f64]| -> f64 {
        let pieces = f.windows(2).zip(sizes.windows(2));
        pieces.map(|(f, size)| (f[0] + f[1]) / 2.0 * (size[1] - size[0]) as f64 / of as f64).sum()
    };
    let areas: Vec<f64> = faithfulness(&sets).chunks(sizes.len()).map(area).collect();
    let (own, (shuffled, random)) = (areas[0], areas[1..].split_at(40));
    let mut random = random.to_vec();
    random.sort_by(f64::total_cmp);
    assert!(own > random[97], "the scores themselves are worth more: {own} {random:?}");
    // 38 of 40 lie in the central 95 percent, give or take; fewer than 34 in one case of a thousand.
    let inside = shuffled.iter().filter(|area| (random[2]..=random[97]).contains(area)).count();
    assert!(inside >= 34, "{shuffled:?} {random:?}");
}

#[test]
fn a_set_is_measured_once_however_often_it_is_asked_for() {
    let (model, pairs) = (fixture_model("gpt2"), pairs());
    let family = family(&model, &mediators(&model, MediatorKind::Heads, &pairs), Outside::Counterfactual);
    let (one, other) = (ItemSet::from_items(family.len(), [1]), ItemSet::from_items(family.len(), [2]));
    let sets = [&one, &other, &one, &one];
    let named = (0..4).map(|i| Mediator { name: i.to_string(), kind: "set".to_owned(), ..Mediator::default() });
    recorded_of(&pairs, named.collect(), Contrast::Restored, |recorder| {
        let counted = evaluate_sets(&model, &pairs, &family, &sets, Metric::LogitDiff, recorder, done).unwrap();
        assert_eq!((counted.asked, counted.distinct), (4, 2));
    });
}

#[test]
fn families_that_cannot_be_are_refused() {
    let (model, pairs) = (fixture_model("gpt2"), pairs());
    let refused = |mediators: &[Mediator]| {
        let mediators: Vec<&Mediator> = mediators.iter().collect();
        let family = Family::new(&mediators, model.config(), Outside::Live, None);
        family.map(|_| ()).unwrap_err().to_string()
    };
    let heads = mediators(&model, MediatorKind::Heads, &pairs);
    assert!(refused(&[]).contains("no scores"));
    assert!(refused(&[heads[0].clone(), heads[0].clone()]).contains("are one part"));
    assert!(refused(&mediators(&model, MediatorKind::Residual, &pairs)).contains("of some positions"));
    let residual = Mediator { span: None, ..mediators(&model, MediatorKind::Residual, &pairs)[0].clone() };
    assert!(refused(&[residual]).contains("measured by interchange"));
    let sublayer = mediators(&model, MediatorKind::Sublayers, &pairs)[0].clone();
    assert!(refused(&[heads[0].clone(), sublayer]).contains("a sublayer and a part of it"));
    let beyond = Mediator { unit: Some(99), ..heads[0].clone() };
    assert!(refused(&[beyond]).contains("the model has"));
    let latent =
        Mediator { name: "sae[0]".to_owned(), kind: "latent".to_owned(), unit: Some(0), ..Mediator::default() };
    assert!(refused(&[latent]).contains("at `sae`"));
}

proptest::proptest! {
    /// CPR + CMD is at least the width of the integral, whatever F does.
    #[test]
    fn both_areas_together_are_at_least_one(values in proptest::collection::vec(-5.0f64..5.0, 2..20)) {
        let of = values.len() as u32 - 1;
        let budgets = (0..=of).map(|kept| mediant_artifact::Budget { kept, of, ..Default::default() }).collect();
        let curve = Curve { places: (0..values.len()).collect(), budgets };
        let sums = Sums { clean: 1.0, counterfactual: 0.0, patched: values };
        proptest::prop_assert!(curve.cpr(&sums) + curve.cmd(&sums) >= 0.999);
    }
}
