//! Times of a GPT-2-small-shaped model with random weights on 8 prompts of 128 tokens, one measure a run, as one JSON line:
//!
//! `cargo run --release -p mediant-methods --example lm_speed -- MEASURE [RUNS]`
//!
//! MEASURE: `forward` (with all logits), `residuals` (all of them read, no logits), `patch` (every head of the first, a middle and the last layer
//! patched alone), `patch_all` (of every layer), `attribution` (of every head). Patching and attribution include the clean and the
//! corrupted run. `block_products` and `logits_product`: the dense products of a forward pass and nothing else, which no pass can be faster than.
//! `benches/lm.py` runs them beside transformers and TransformerLens.
//!
//! On 8 prompts of 32 tokens: `eap` and `eap_ig` (5 steps), scores of every edge; `edge_sets`, the faithfulness of four random sets of half of all edges.
//! `benches/mediators.py` runs these beside the same method as hooks on TransformerLens.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, HashSet};
use std::hint::black_box;
use std::time::Instant;

use mediant_artifact::{ArtifactWriter, Contrast, Digest, HookFact, Kind, Mediator, Prompt, Version};
use mediant_lm::{Batch, Differentiable, HookPoint, Hooks, LmConfig, Model, Parameter, Positions, Rows, Site, State};
use mediant_methods::mediators::{Family, ItemSet, Outside, evaluate_sets, random_order};
use mediant_methods::{
    About, Answers, By, Direction, EdgeMethod, Error, Graph, Metric, Pairs, Recorder, Reference, Rule, Slope,
    edge_effects, patch, targets,
};
use mediant_tensor::random::{below, fill_normal, stream};
use mediant_tensor::{Flex, Tensor};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LAYERS: usize = 12;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let measure = arguments.next().unwrap_or_else(|| "forward".to_owned());
    let runs: usize = arguments.next().map_or(3, |n| n.parse().unwrap());
    let model = model();
    let pairs = pairs(if matches!(measure.as_str(), "eap" | "eap_ig" | "edge_sets") { 32 } else { 128 });
    let pair = pairs.batch::<Flex>(0..8, model.config(), &model.device()).unwrap();
    let mut run: Box<dyn FnMut()> = match measure.as_str() {
        "forward" => Box::new(|| drop(black_box(all_logits(&model, &pair.clean)))),
        "residuals" => Box::new(|| drop(black_box(residuals(&model, &pair.clean)))),
        "patch" => Box::new(|| patch_heads(&model, &pairs, &[0, LAYERS / 2, LAYERS - 1])),
        "patch_all" => Box::new(|| patch_heads(&model, &pairs, &(0..LAYERS).collect::<Vec<_>>())),
        "attribution" => Box::new(|| drop(black_box(attribution(&model, &pairs)))),
        "eap" => Box::new(|| edges(&model, &pairs, Slope::At(Reference::Clean))),
        "eap_ig" => Box::new(|| edges(&model, &pairs, Slope::OverEmbeddings(Rule::Left, 5))),
        "edge_sets" => Box::new(|| edge_sets(&model, &pairs)),
        "block_products" => products(&[(768, 3 * 768), (768, 768), (768, 4 * 768), (4 * 768, 768)], LAYERS),
        "logits_product" => products(&[(768, 50257)], 1),
        other => panic!("no measure {other}"),
    };
    let mut times = Vec::new();
    for round in 0..=runs {
        let start = Instant::now();
        run();
        // The first is to get warm, but the sweeps are long enough without.
        if round > 0 || measure.starts_with("patch") {
            times.push(start.elapsed().as_secs_f64());
        }
        if measure.starts_with("patch") && times.len() == runs {
            break;
        }
    }
    times.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).unwrap();
    let peak: u64 = peak.parse().unwrap();
    println!("{}", json!({ "measure": measure, "seconds": times[times.len() / 2], "peak_mb": peak / 1024 }));
}

fn model() -> Model<Flex> {
    let config = LmConfig::from_json(&json!({
        "model_type": "gpt2", "n_layer": LAYERS, "n_embd": 768, "n_head": 12, "vocab_size": 50257, "n_positions": 1024
    }))
    .unwrap();
    let parameters = config.slots().into_iter().map(|slot| {
        let shape = slot.shape(&config);
        let mut values = vec![0.0; shape.iter().product()];
        fill_normal(&mut stream(0, &slot.to_string()), &mut values, 0.0, 0.02);
        (slot, Parameter::new(values, &shape, &Default::default()).unwrap())
    });
    Model::new(config.clone(), parameters).unwrap()
}

fn pairs(tokens: usize) -> Pairs {
    let mut draws = stream(0, "ids");
    let mut version = || Version {
        ids: (0..tokens).map(|_| below(&mut draws, 50257) as i32).collect(),
        right: vec![5],
        wrong: vec![7],
        ..Version::default()
    };
    let prompt = |_| Prompt { clean: version(), counterfactuals: vec![version()], ..Prompt::default() };
    Pairs::new((0..8).map(prompt).collect(), Some(0)).unwrap()
}

fn all_logits(model: &Model<Flex>, batch: &Batch<Flex>) -> Tensor<Flex, 2> {
    model.logits_from(batch, State::Start, Rows::All, Hooks::none()).unwrap()
}

/// Products of 1,024 rows with matrices of these shapes, a set of them for each layer.
fn products(shapes: &[(usize, usize)], layers: usize) -> Box<dyn FnMut()> {
    let filled = |rows: usize, columns: usize, name: &str| {
        let mut values = vec![0.0; rows * columns];
        fill_normal(&mut stream(0, name), &mut values, 0.0, 1.0);
        Tensor::<Flex, 2>::from_data(mediant_tensor::TensorData::new(values, [rows, columns]), &Default::default())
    };
    let of_layer = |layer: usize| shapes.iter().map(move |&(rows, columns)| (layer, rows, columns));
    let pairs: Vec<_> = (0..layers)
        .flat_map(of_layer)
        .map(|(layer, rows, columns)| (filled(1024, rows, "x"), filled(rows, columns, &format!("{layer} {columns}"))))
        .collect();
    Box::new(move || pairs.iter().for_each(|(x, weight)| drop(black_box(x.clone().matmul(weight.clone())))))
}

fn residuals(model: &Model<Flex>, batch: &Batch<Flex>) -> Vec<Tensor<Flex, 3>> {
    let points =
        (0..LAYERS).flat_map(|layer| [Site::ResidPre, Site::ResidPost].map(|site| HookPoint::Block(layer, site)));
    let mut kept = Vec::new();
    let mut take = |_, x| {
        kept.push(x);
        Ok(())
    };
    model.read(batch, Hooks::none().read(points, &mut take)).unwrap();
    kept
}

fn patch_heads(model: &Model<Flex>, pairs: &Pairs, layers: &[usize]) {
    let hooks: Vec<HookFact> = layers
        .iter()
        .map(|layer| HookFact { name: format!("blocks.{layer}.attn.hook_z"), shape: vec![12, 64] })
        .collect();
    let targets = targets(&hooks, Some(&[By::Head]), &Positions::All, &[], pairs).unwrap();
    let mediators = targets.iter().map(|target| target.mediator.clone()).collect();
    recorded("activation_patching", Direction::Denoising.contrast(), pairs, mediators, |recorder| {
        patch(model, pairs, &targets, Direction::Denoising, Metric::LogitDiff, recorder, done).unwrap();
    });
}

fn done(_: usize, _: usize) -> Result<(), Error> {
    Ok(())
}

/// What a stage does around its method: the effects are written, and scores are made of them.
fn recorded(
    method: &'static str,
    contrast: Contrast,
    pairs: &Pairs,
    mediators: Vec<Mediator>,
    run: impl FnOnce(&mut Recorder),
) {
    let folder = std::env::temp_dir().join(format!("lm_speed-{}", std::process::id()));
    let writer = |name: &str, kind| {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        ArtifactWriter::create(&folder, kind).unwrap()
    };
    let about = About {
        method,
        metric: Metric::LogitDiff,
        contrast,
        counterfactual: None,
        model: Digest::of(b""),
        prompts: Digest::of(b""),
        settings: BTreeMap::new(),
        seed: 0,
    };
    let mut recorder = Recorder::new(writer("effects", Kind::Effects), about, &pairs.examples(), mediators).unwrap();
    run(&mut recorder);
    recorder.finish(writer("scores", Kind::Scores)).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

fn edges(model: &Model<Flex>, pairs: &Pairs, slope: Slope) {
    let graph = Graph::new(model.config()).unwrap();
    recorded("edge_attribution", Contrast::Lost, pairs, graph.mediators(), |recorder| {
        let method = EdgeMethod::Attribution(slope);
        edge_effects(model, pairs, &graph, method, Metric::LogitDiff, recorder, done).unwrap();
    });
}

fn edge_sets(model: &Model<Flex>, pairs: &Pairs) {
    let mediators = Graph::new(model.config()).unwrap().mediators();
    let of = mediators.len();
    let family = Family::new(&mediators.iter().collect::<Vec<_>>(), model.config(), Outside::default(), None).unwrap();
    let half = |draw| ItemSet::from_items(of, random_order(of, 0, draw)[..of / 2].iter().copied());
    let sets: Vec<ItemSet> = (0..4).map(half).collect();
    assert_eq!(sets.iter().collect::<HashSet<_>>().len(), 4);
    let named =
        |draw: usize| Mediator { name: format!("draw {draw}"), kind: "random".to_owned(), ..Mediator::default() };
    recorded("evaluate_mediator", Contrast::Restored, pairs, (0..4).map(named).collect(), |recorder| {
        let sets: Vec<&ItemSet> = sets.iter().collect();
        evaluate_sets(model, pairs, &family, &sets, Metric::LogitDiff, recorder, done).unwrap();
    });
}

fn attribution(model: &Model<Flex>, pairs: &Pairs) -> Vec<Vec<f32>> {
    let pair = pairs.batch::<Flex>(0..8, model.config(), &model.device()).unwrap();
    let points: Vec<_> = (0..LAYERS).map(|layer| HookPoint::Block(layer, Site::Z)).collect();
    let mut clean = BTreeMap::new();
    let mut take = |point, x| {
        clean.insert(point, x);
        Ok(())
    };
    let hooks = Hooks::none().read(points.iter().copied(), &mut take);
    black_box(model.logits_from(&pair.clean, State::Start, Rows::Last, hooks).unwrap());
    let answers: &Answers = &pair.answers;
    let mut scores = vec![Vec::new(); LAYERS];
    let mut each = |point: HookPoint, x: Tensor<Flex, 3>, gradient: Tensor<Flex, 3>| {
        let HookPoint::Block(layer, _) = point else { return Ok(()) };
        let score = ((clean[&point].clone() - x) * gradient).sum_dim(2).sum_dim(0);
        scores[layer] = score.into_data().into_vec().unwrap();
        Ok(())
    };
    let metric = |logits| Ok(Metric::LogitDiff.of(logits, answers));
    let differentiable = Differentiable::new(model).unwrap();
    differentiable.gradients(pair.corrupted().unwrap(), State::Start, &[], &points, &metric, &mut each).unwrap();
    scores
}
