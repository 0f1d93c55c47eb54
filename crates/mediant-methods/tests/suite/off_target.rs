//! Sets of mediators replaced by their means on text: where that must equal something simpler.

use mediant_artifact::{Mediator, Tokens};
use mediant_lm::{Add, Edit, HookPoint, Hooks, Model, Positions, Replace, Select, Values, batch_of, losses, predicted};
use mediant_methods::mediators::{
    Controls, Family, ItemSet, MediatorKind, OffTarget, Outside, Sizes, latent_mediators, off_target, plan,
};
use mediant_methods::{Error, Graph, SaeSplice};
use mediant_tensor::{Flex, Tensor, TensorData};

use super::mediators::{MODELS, family, mediators, node_name, pairs, spliced};
use super::prompts::fixture_model;
use super::support::tokens;

/// f32 sums of a few layers in another order.
const CLOSE: f32 = 2e-4;

fn replaced(model: &Model<Flex>, text: &Tokens, family: &Family, set: &ItemSet) -> OffTarget {
    off_target(model, text, family, set, |_, _| Ok::<_, Error>(())).unwrap()
}

/// Losses with some edits.
fn edited(model: &Model<Flex>, text: &Tokens, edits: &[(HookPoint, &dyn Edit<Flex>)]) -> Vec<f32> {
    let hooks = || edits.iter().fold(Hooks::none(), |hooks, (point, edit)| hooks.edit(*point, *edit));
    losses(model, text, hooks, |_, _| Ok::<_, mediant_lm::Error>(())).unwrap()
}

/// The mean over the positions from which a token is predicted of what stands at a point, or of what an edit leaves there.
fn mean(model: &Model<Flex>, text: &Tokens, point: HookPoint, edit: Option<&dyn Edit<Flex>>) -> Tensor<Flex, 3> {
    let batch = batch_of(model, text, 0..text.len()).unwrap();
    let mut read = None;
    let mut take = |_, x: Tensor<Flex, 3>| {
        read = Some(x);
        Ok(())
    };
    let hooks = edit.map_or_else(Hooks::none, |edit| Hooks::none().edit(point, edit));
    model.read(&batch, hooks.read([point], &mut take)).unwrap();
    let x = read.unwrap();
    let [_, units, width] = x.dims();
    let rows: Vec<i32> = predicted(text, 0..text.len()).map(|(token, _)| token as i32 - 1).collect();
    let count = rows.len();
    let rows = Tensor::from_data(TensorData::new(rows, [count]), &x.device());
    x.select(0, rows).mean_dim(0).reshape([1, units, width])
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < CLOSE, "{what}: {found} {expected}");
    }
}

fn assert_apart(found: &OffTarget, what: &str) {
    let apart = found.clean.iter().zip(&found.ablated).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(apart > 10.0 * CLOSE, "{what}: nothing happens");
}

#[test]
fn nothing_replaced_leaves_the_text_as_it_is() {
    for name in MODELS {
        let (model, text) = (fixture_model(name), tokens(6));
        for kind in [MediatorKind::Nodes, MediatorKind::Neurons, MediatorKind::Edges] {
            let family = family(&model, &mediators(&model, kind, &pairs()), Outside::Counterfactual);
            let found = replaced(&model, &text, &family, &ItemSet::none(family.len()));
            assert_eq!(found.clean, edited(&model, &text, &[]));
            if kind == MediatorKind::Edges {
                // What the streams of means lack is added to them: means of nodes and of what no node writes are those of the stream.
                assert_close(&found.ablated, &found.clean, name);
            } else {
                assert_eq!(found.ablated, found.clean);
            }
        }
    }
}

#[test]
fn replaced_nodes_are_the_edges_that_leave_them() {
    for name in MODELS {
        let (model, text) = (fixture_model(name), tokens(6));
        let nodes = mediators(&model, MediatorKind::Nodes, &pairs());
        let edges = Graph::new(model.config()).unwrap().mediators();
        let of_nodes = family(&model, &nodes, Outside::Counterfactual);
        let of_edges = family(&model, &edges, Outside::Counterfactual);
        for every in [2, 3] {
            let chosen: Vec<usize> = (0..nodes.len()).step_by(every).collect();
            let names: Vec<String> = chosen.iter().map(|&node| node_name(&nodes[node])).collect();
            let leaves = |edge: &Mediator| names.iter().any(|name| edge.source.as_deref() == Some(name));
            let leaving = (0..edges.len()).filter(|&edge| leaves(&edges[edge]));
            let edges = replaced(&model, &text, &of_edges, &ItemSet::from_items(of_edges.len(), leaving));
            let nodes = replaced(&model, &text, &of_nodes, &ItemSet::from_items(of_nodes.len(), chosen));
            assert_close(&edges.ablated, &nodes.ablated, name);
            assert_apart(&nodes, name);
        }
    }
}

#[test]
fn replaced_sublayers_are_mean_ablated() {
    for name in MODELS {
        let (model, text) = (fixture_model(name), tokens(6));
        let items = mediators(&model, MediatorKind::Sublayers, &pairs());
        let family = family(&model, &items, Outside::Counterfactual);
        let found = replaced(&model, &text, &family, &ItemSet::all(family.len()));
        let means = items.iter().map(|item| {
            let point: HookPoint = item.hook.as_ref().unwrap().parse().unwrap();
            (point, Replace { with: Values::Same(mean(&model, &text, point, None)), select: Select::default() })
        });
        let means: Vec<(HookPoint, Replace<Flex>)> = means.collect();
        let edits: Vec<_> = means.iter().map(|(point, edit)| (*point, edit as &dyn Edit<Flex>)).collect();
        assert_close(&found.ablated, &edited(&model, &text, &edits), name);
        assert_apart(&found, name);
    }
}

#[test]
fn what_hears_only_means_computes_from_them() {
    // Without position embeddings the stream of means is one row.
    for name in ["llama", "qwen2"] {
        let (model, text) = (fixture_model(name), tokens(6));
        let edges = Graph::new(model.config()).unwrap().mediators();
        let family = family(&model, &edges, Outside::Counterfactual);
        let into = (0..edges.len()).filter(|&edge| edges[edge].target.as_deref() == Some("m1"));
        let found = replaced(&model, &text, &family, &ItemSet::from_items(edges.len(), into));
        let stream = mean(&model, &text, "blocks.1.hook_resid_mid".parse().unwrap(), None);
        let edit = Replace { with: Values::Same(stream), select: Select::default() };
        let by_hand = edited(&model, &text, &[("blocks.1.hook_mlp_in".parse().unwrap(), &edit)]);
        assert_close(&found.ablated, &by_hand, name);
        assert_apart(&found, name);
    }
}

#[test]
fn what_is_outside_of_a_family_computes_as_usual() {
    let (model, text) = (fixture_model("gpt2"), tokens(6));
    let head = &mediators(&model, MediatorKind::Heads, &pairs())[..1];
    let edges = Graph::new(model.config()).unwrap().mediators();
    for items in [head, &edges[..1]] {
        let of = |outside| replaced(&model, &text, &family(&model, items, outside), &ItemSet::all(1));
        assert_eq!(of(Outside::Counterfactual), of(Outside::Live));
        assert_apart(&of(Outside::Live), &items[0].name);
    }
    let point = head[0].hook.as_ref().unwrap().parse().unwrap();
    let edit = Replace { with: Values::Same(mean(&model, &text, point, None)), select: Select::head(0) };
    let found = replaced(&model, &text, &family(&model, head, Outside::Counterfactual), &ItemSet::all(1));
    assert_close(&found.ablated, &edited(&model, &text, &[(point, &edit)]), "one head");
}

#[test]
fn replaced_latents_are_shifted_by_the_mean_of_what_they_write() {
    for name in ["gpt2", "llama"] {
        let (model, text) = (fixture_model(name), tokens(6));
        let spliced = spliced(&model, "blocks.1.hook_resid_post");
        let point = spliced.writes;
        let items = latent_mediators(&spliced);
        let items: Vec<&Mediator> = items.iter().collect();
        let family = Family::new(&items, model.config(), Outside::Counterfactual, Some(spliced.clone())).unwrap();
        let of = items.len();
        let none = replaced(&model, &text, &family, &ItemSet::none(of));
        assert_eq!(none.ablated, none.clean);
        // Latents and error together are the activation.
        let all = replaced(&model, &text, &family, &ItemSet::all(of));
        let mean_of_all = Replace { with: Values::Same(mean(&model, &text, point, None)), select: Select::default() };
        assert_close(&all.ablated, &edited(&model, &text, &[(point, &mean_of_all)]), name);
        assert_apart(&all, name);
        // Some latents: what is left without them, and the mean of the difference.
        let zeroed: Vec<usize> = (0..of - 1).step_by(3).collect();
        let some = replaced(&model, &text, &family, &ItemSet::from_items(of, zeroed.iter().copied()));
        let without = SaeSplice { sae: spliced.sae, keep_error: true, zeroed, positions: Positions::All };
        let vector = mean(&model, &text, point, None) - mean(&model, &text, point, Some(&without));
        let shift = Add { vector, select: Select::default() };
        assert_close(&some.ablated, &edited(&model, &text, &[(point, &without), (point, &shift)]), name);
        assert_apart(&some, name);
    }
}

#[test]
fn the_error_is_left_out_once_where_there_is_one() {
    let model = fixture_model("gpt2");
    let without_error = |family: &Family, items: &[Mediator]| -> Vec<ItemSet> {
        let scores: Vec<f64> = (0..items.len()).map(|item| item as f64).collect();
        let names: Vec<&str> = items.iter().map(|item| item.name.as_str()).collect();
        let asked =
            plan(family, &scores, &names, Controls { sizes: Sizes::Every, draws: 1, minimality_at: 0.1, seed: 0 });
        asked.into_iter().filter(|asked| asked.mediator.kind == "without_error").map(|asked| asked.set).collect()
    };
    let spliced = spliced(&model, "blocks.1.hook_resid_post");
    let items = latent_mediators(&spliced);
    let all: Vec<&Mediator> = items.iter().collect();
    let of_latents = Family::new(&all, model.config(), Outside::Live, Some(spliced)).unwrap();
    assert_eq!(without_error(&of_latents, &items), [ItemSet::from_items(41, 0..40)]);
    let heads = mediators(&model, MediatorKind::Heads, &pairs());
    assert_eq!(without_error(&family(&model, &heads, Outside::Live), &heads), []);
}
