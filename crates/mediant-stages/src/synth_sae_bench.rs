//! `synth_sae_bench`: vectors made of known features.

use std::io;
use std::time::Instant;

use mediant_artifact::{
    ActivationsFacts, ActivationsMeta, ActivationsWriter, DType, DictionaryFacts, Digest, Facts, HookFact, Kind,
    Processing,
};
use mediant_dict::synth::{ARCHITECTURE, EXAMPLE_ROWS, HOOK, Set, SynthConfig, Synthetic, artifact};
use mediant_engine::{
    Docs, InputFacts, Output, Port, Ports, Problems, Resources, RunContext, SourcePaths, Stage, StageError,
};

use crate::train_sae::problems;

/// The stage.
#[derive(Clone, Copy)]
pub(crate) struct SynthSaeBench;

const PORTS: &[Port] = &[];

/// Rows drawn at a time.
const PIECE: u64 = 8192;
/// Rows of a part, which work resumes at.
const PART_ROWS: u64 = 1 << 16;

impl Stage for SynthSaeBench {
    type Config = SynthConfig;
    const NAME: &'static str = "synth_sae_bench";
    const VERSION: u32 = 1;

    fn docs(&self) -> Docs {
        Docs {
            summary: "Vectors made of known features, to measure what autoencoders find (SynthSAEBench)",
            details: DETAILS,
            example: "bench:\n  uses: synth_sae_bench\n  with: { rows: 1000000, num_features: 512, hidden_dim: 128, hierarchy: { total_root_nodes: 16, max_depth: 2 } }\n",
        }
    }

    fn inputs(&self) -> Ports {
        Ports::Fixed(PORTS)
    }

    fn outputs(&self, config: &SynthConfig) -> Vec<Output> {
        let truth = Output::new("truth", Kind::Dictionary, "The features, and how they fire.");
        let activations = Output::new("activations", Kind::Activations, "The training vectors, unless `cache: false`.");
        if config.cache { vec![activations, truth] } else { vec![truth] }
    }

    fn check(&self, config: &SynthConfig) -> Result<(), Problems> {
        config.check().map_err(problems)
    }

    fn infer(&self, config: &SynthConfig, _: &InputFacts, _: &SourcePaths) -> Result<Vec<(String, Facts)>, Problems> {
        let truth = DictionaryFacts {
            architecture: ARCHITECTURE.to_owned(),
            hook: HOOK.to_owned(),
            d_in: config.hidden_dim,
            d_sae: config.num_features,
            hook_out: None,
            skips: false,
            plain_topk: false,
            input_norm: None,
        };
        let mut facts = vec![("truth".to_owned(), Facts::Dictionary(truth))];
        if config.cache {
            let activations =
                ActivationsFacts { hooks: vec![hook(config)], dtype: DType::F32, rows: Some(config.rows), model: None };
            facts.push(("activations".to_owned(), Facts::Activations(activations)));
        }
        Ok(facts)
    }

    fn resources(&self, config: &SynthConfig, _: &InputFacts) -> Resources {
        // Features, their gradient and two moments; F; a piece of vectors.
        let features = 4 * config.num_features * config.hidden_dim + config.hidden_dim * config.hidden_dim;
        let factors = 2 * config.num_features * config.correlation.map_or(0, |correlation| correlation.rank);
        let numbers = (features + factors) as u64 + 3 * PIECE * config.hidden_dim as u64;
        Resources { memory: 4 * numbers, gpus: 0, ..Resources::all_cpus() }
    }

    fn run(&self, cx: &RunContext<'_, SynthConfig>) -> Result<(), StageError> {
        let config = cx.config();
        let generator = Synthetic::draw(config.clone(), |done, total| {
            cx.progress(done, total, "steps of orthogonalisation");
            cx.check_cancelled()
        })?;
        let truth = artifact::write(cx.output("truth")?, &generator)?;
        if config.cache { write_activations(cx, &generator, truth.logical) } else { Ok(()) }
    }
}

fn hook(config: &SynthConfig) -> HookFact {
    HookFact { name: HOOK.to_owned(), shape: vec![config.hidden_dim] }
}

/// Writes the training vectors; an interrupted run goes on at the last complete part.
fn write_activations(cx: &RunContext<'_, SynthConfig>, generator: &Synthetic, truth: Digest) -> Result<(), StageError> {
    let config = cx.config();
    let hooks = vec![hook(config)];
    let bytes = config.rows as f64 * config.hidden_dim as f64 * DType::F32.size() as f64;
    cx.note(format!("{} vectors of {} numbers, {:.3} GB", config.rows, config.hidden_dim, bytes / 1e9));
    let artifact = match cx.checkpoints().latest()? {
        Some(checkpoint) => cx.output_resumed("activations", &checkpoint)?,
        None => cx.output("activations")?,
    };
    let mut writer = ActivationsWriter::new(artifact, &hooks, DType::F32)?;
    let (mut parts, mut saved) = (writer.rows() / PART_ROWS, Instant::now());
    while writer.rows() < config.rows {
        cx.check_cancelled()?;
        let rows: Vec<u64> = (writer.rows()..config.rows.min(writer.rows() + PIECE)).collect();
        let vectors = generator.vectors(&generator.firing().sample(Set::Training, &rows));
        let example = rows.iter().map(|row| u32::try_from(row / EXAMPLE_ROWS)).collect::<Result<Vec<_>, _>>()?;
        let position: Vec<u32> = rows.iter().map(|row| (row % EXAMPLE_ROWS) as u32).collect();
        // No token stands behind a vector.
        writer.index(&example, &position, &vec![-1; rows.len()])?;
        for hook in writer.hooks_mut() {
            hook.write_f32(&vectors)?;
        }
        cx.progress(writer.rows(), config.rows, "vectors");
        if writer.rows() / PART_ROWS > parts && saved.elapsed() > cx.checkpoint_every() {
            cx.checkpoints().save(|folder| writer.checkpoint(folder).map_err(io::Error::other))?;
            (parts, saved) = (writer.rows() / PART_ROWS, Instant::now());
        }
    }
    writer.finish(&ActivationsMeta {
        model: truth,
        tokens: truth,
        hooks,
        dtype: DType::F32,
        positions: "all".to_owned(),
        prepend_bos: false,
        context: EXAMPLE_ROWS as usize,
        rows: config.rows,
        processing: Processing::default(),
    })?;
    Ok(())
}

const DETAILS: &str = "\
The generator of SynthSAEBench as in SAELens 6.54 (`sae_lens.synthetic`), in the semantics of its second version (children are scaled by \
their parents), which the published numbers were made with. Option names are SAELens'; defaults are those of SynthSAEBench-16k: 16,384 \
features in 768 dimensions.

- **Features** g_i are unit vectors: normal, then `orthogonalization.num_steps` steps of Adam on \
  `Σ_{i≠j} (g_i·g_j)² + n Σ_i (‖g_i‖² − 1)²`. A vector is `x = bias + Σ_i v_i g_i`.
- **Firing.** Feature i wants to fire with probability p_i, Zipfian from `max_prob` to `min_prob`. It fires by itself where \
  `F_i·ε + √D_i η_i` is above the (1 − p_i)-quantile of N(0, 1): ε, of `correlation.rank` numbers, is common to all features of a vector. \
  Then `v_i = max(N(μ_i, σ_i²), 0)`, with means μ in equal steps and σ_i = |N(mean, std²)| drawn once.
- **Trees.** Features are numbered breadth first: `total_root_nodes` roots, their `branching_factor` children, and so on, `max_depth` levels \
  below the roots; the rest are in no tree. A child fires only where its parent does; where several children of an exclusive parent would, \
  one of them, chosen uniformly, stays. From the roots down a child's v is multiplied by `v_parent / μ_parent`. With \
  `compensate_probabilities`, p_i is `p_i / p_parent · (1 + Σ_{siblings j≠i} p_j / p_parent)`, at most 1.

Sampling looks at roots, at features in no tree, and at children of parents that fire; the distribution is that of drawing all. Every vector \
has its own random numbers, from `seed`, whether it is for training or evaluation, and its row: it is the same whatever it is drawn \
with, on any number of threads. No draw uses the mathematical library of the system; the products of the orthogonalisation, like all, may \
differ between kinds of processors in the last bits.

`truth` holds the features and what their firing follows from, under SAELens' names. `evaluate_synth_sae` draws its own vectors from it. \
`activations` holds `rows` training vectors; row r is vector r of the training set. With `cache: false` there is no such output: connect \
`truth` to the input `truth` of `train_sae`, which draws the same vectors on the way and gives the same bytes. (200 million vectors of \
768, as published, are 614 GB.)";
