//! The plan: every instance of a pipeline with its typed config, inputs, facts and recipe key; then what of it is
//! cached, what will run, and why.

mod bind;
mod judge;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mediant_artifact::{Digest, Facts};
use mediant_hub::{Hub, Settings};
use mediant_spec::Pipeline;
use mediant_store::{StatIndex, Store};
use petgraph::graph::{DiGraph, NodeIndex};

use crate::canon::Canon;
use crate::catalogue::{Bound, Catalogue};
use crate::error::{Error, Result};
use crate::keys::{Domain, MemberKey, Origin, Preimage};
use crate::lockfile::LockFile;
use crate::project::Project;
use crate::stage::{Cpus, Output, Resources};

pub(crate) use judge::id;
pub use judge::{Judge, Known, KnownOutput, Made, Status, Why};
pub(crate) use source::digest_path;
pub use source::{HubPin, PlannedSource};

/// What a user asks for beside the pipeline file.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// `--set` values.
    pub overrides: Vec<String>,
    /// Only these stages or instances and what they need; all when empty.
    pub targets: Vec<String>,
    /// Where the store is, if not in the project.
    pub store: Option<PathBuf>,
    /// Whether error messages are coloured.
    pub color: bool,
    /// Told of files that are fetched from the hub.
    pub fetching: Option<mediant_hub::Progress>,
}

/// A pipeline, expanded, checked and keyed.
pub struct Plan {
    /// The file.
    pub file: PathBuf,
    /// As read.
    pub pipeline: Pipeline,
    /// The folder and settings it belongs to.
    pub project: Project,
    /// Producers before consumers.
    pub instances: Vec<Planned>,
    /// Instances that are wanted: the targets and what they need.
    pub wanted: Vec<bool>,
    /// Edges from producer to consumer; node indices are instance indices.
    pub graph: DiGraph<(), ()>,
    /// The store.
    pub store: Store,
    /// What is known of files by their stat.
    pub stats: StatIndex,
}

/// One instance of a stage.
pub struct Planned {
    /// `sae[name=topk16,seed=0]`.
    pub label: String,
    /// Index into the pipeline's stages.
    pub decl: usize,
    /// Axis and label, by axis name.
    pub axes: Vec<(String, String)>,
    /// Name of the stage it uses.
    pub uses: &'static str,
    /// Its version.
    pub version: u32,
    /// The stage with its config.
    pub bound: Box<dyn Bound>,
    /// The config as it enters keys, without the paths of sources.
    pub config: Canon,
    /// What it takes, in the stage's order of ports, members sorted as they enter keys.
    pub inputs: Vec<PlannedPort>,
    /// What it makes.
    pub outputs: Vec<Output>,
    /// What is known of the outputs, in their order, and of each of their keys.
    pub facts: Vec<Vec<Arc<Facts>>>,
    /// Outside files with their digests.
    pub sources: Vec<PlannedSource>,
    /// What it needs while it runs, the pipeline's wishes applied.
    pub resources: Resources,
    /// Recipe key.
    pub recipe: Digest,
}

/// What is connected to one port.
#[derive(Debug, Clone)]
pub struct PlannedPort {
    /// The port.
    pub name: String,
    /// Whether it collects.
    pub members: Vec<PlannedMember>,
}

/// One artifact connected to a port.
#[derive(Debug, Clone)]
pub struct PlannedMember {
    /// Index of the producing instance.
    pub producer: usize,
    /// Index of the output among the producer's.
    pub output: usize,
    /// The key of a keyed output, else empty.
    pub key: String,
    /// The axes collected, with this member's labels.
    pub labels: Vec<(String, String)>,
    /// The member's name.
    pub name: Option<String>,
}

impl Plan {
    /// Reads a pipeline and plans it. Runs nothing and writes nothing but the memory of file digests.
    ///
    /// # Errors
    /// [`Error::Input`] with everything that is wrong with the pipeline, rendered.
    pub fn make(file: &Path, options: &PlanOptions, catalogue: &Catalogue) -> Result<Self> {
        let pipeline = mediant_spec::load(file, &options.overrides)
            .map_err(|failure| Error::Input(failure.diagnostics.render(&failure.sources, options.color)))?;
        let project = Project::of(&pipeline.dir)?;
        let render =
            |diagnostics: mediant_spec::Diagnostics| Error::Input(diagnostics.render(&pipeline.sources, options.color));
        let (expansion, found) = match mediant_spec::expand(&pipeline, catalogue) {
            Ok(expansion) => (expansion, Vec::new()),
            Err(wrong) => (wrong.expansion, wrong.diagnostics.into_vec()),
        };
        let bound = bind::bind(&pipeline, expansion, found, catalogue, hub(file, options)).map_err(render)?;

        let store = Store::open(&project.store(options.store.as_deref()))?;
        let stats = StatIndex::load(&store);
        let mut instances: Vec<Planned> = Vec::with_capacity(bound.len());
        for instance in bound {
            let planned = source::digest(instance, &pipeline, &stats).map_err(render)?;
            instances.push(planned);
            let recipe = recipe_key(&instances, instances.len() - 1);
            if let Some(last) = instances.last_mut() {
                last.recipe = recipe;
            }
        }
        let graph = graph(&instances);
        let wanted = wanted(&instances, &graph, &options.targets)?;
        Ok(Self { file: file.to_owned(), pipeline, project, instances, wanted, graph, store, stats })
    }

    /// The instance with a label.
    pub fn find(&self, label: &str) -> Option<usize> {
        self.instances.iter().position(|instance| instance.label == label)
    }

    /// The instances meant by `sae`, `sae[name=topk16]` or a full label.
    ///
    /// # Errors
    /// If there are none, with the nearest name.
    pub fn select(&self, selector: &str) -> Result<Vec<usize>> {
        select(&self.instances, selector)
    }

    /// What decides the result of an instance, by its producers' recipes.
    pub fn preimage(&self, index: usize) -> Preimage<'_> {
        recipe_preimage(&self.instances, index)
    }

    /// Whether any wanted instance runs programs of the user's; the first one's label.
    pub fn program(&self, catalogue: &Catalogue) -> Option<&str> {
        self.instances
            .iter()
            .zip(&self.wanted)
            .find(|(instance, wanted)| {
                **wanted && catalogue.get(instance.uses).is_some_and(|stage| stage.runs_programs())
            })
            .map(|(instance, _)| instance.label.as_str())
    }
}

impl Planned {
    /// Name and key of every artifact it makes, in order.
    pub fn artifacts(&self) -> impl Iterator<Item = (&Output, &str)> {
        self.outputs.iter().flat_map(|output| {
            let keys = if output.keys.is_empty() { std::slice::from_ref(&EMPTY) } else { &output.keys[..] };
            keys.iter().map(move |key| (output, key.as_str()))
        })
    }

    /// The threads it gets in a run that has `cpus`.
    pub fn threads(&self, cpus: usize) -> usize {
        match self.resources.cpus {
            Cpus::All => cpus,
            Cpus::Count(count) => (count as usize).clamp(1, cpus.max(1)),
        }
    }
}

static EMPTY: String = String::new();

/// The hub, with what the pipeline's lock file has pinned.
fn hub(file: &Path, options: &PlanOptions) -> Hub {
    let mut hub = Hub::new(Settings::from_env(), options.fetching);
    // A lock file that cannot be read is told where it is needed.
    let lock = LockFile::read(&LockFile::path(file)).ok().flatten();
    for (asked, commit) in lock.into_iter().flat_map(|lock| lock.hub) {
        hub.pin(&asked, &commit);
    }
    hub
}

/// The name under which an artifact stands in an action record: `train`, `checkpoints[step=100]`.
pub fn output_name(output: &str, key: &str) -> String {
    if key.is_empty() { output.to_owned() } else { format!("{output}[{key}]") }
}

fn recipe_key(instances: &[Planned], index: usize) -> Digest {
    recipe_preimage(instances, index).key(Domain::Recipe)
}

fn recipe_preimage(instances: &[Planned], index: usize) -> Preimage<'_> {
    preimage_with(&instances[index], |member| {
        let producer = &instances[member.producer];
        Origin::Recipe {
            recipe: producer.recipe,
            output: producer.outputs[member.output].name.clone(),
            key: member.key.clone(),
        }
    })
}

/// The pre-image of an instance whose inputs are identified by `origin`.
pub(crate) fn preimage_with(instance: &Planned, origin: impl Fn(&PlannedMember) -> Origin) -> Preimage<'_> {
    let member_key = |member: &PlannedMember| MemberKey {
        origin: origin(member),
        labels: member.labels.clone(),
        name: member.name.clone(),
    };
    Preimage {
        stage: instance.uses,
        version: instance.version,
        config: &instance.config,
        inputs: instance
            .inputs
            .iter()
            .map(|port| (port.name.as_str(), port.members.iter().map(&member_key).collect()))
            .collect(),
        sources: instance.sources.iter().map(|source| &source.key).collect(),
    }
}

fn graph(instances: &[Planned]) -> DiGraph<(), ()> {
    let mut graph = DiGraph::with_capacity(instances.len(), instances.len() * 2);
    for _ in instances {
        graph.add_node(());
    }
    for (index, instance) in instances.iter().enumerate() {
        let mut producers: Vec<usize> =
            instance.inputs.iter().flat_map(|port| &port.members).map(|member| member.producer).collect();
        producers.sort_unstable();
        producers.dedup();
        for producer in producers {
            graph.add_edge(NodeIndex::new(producer), NodeIndex::new(index), ());
        }
    }
    graph
}

fn wanted(instances: &[Planned], graph: &DiGraph<(), ()>, targets: &[String]) -> Result<Vec<bool>> {
    if targets.is_empty() {
        return Ok(vec![true; instances.len()]);
    }
    let mut wanted = vec![false; instances.len()];
    let mut open = Vec::new();
    for target in targets {
        open.extend(select(instances, target)?);
    }
    while let Some(index) = open.pop() {
        if !std::mem::replace(&mut wanted[index], true) {
            open.extend(graph.neighbors_directed(NodeIndex::new(index), petgraph::Incoming).map(NodeIndex::index));
        }
    }
    Ok(wanted)
}

fn select(instances: &[Planned], selector: &str) -> Result<Vec<usize>> {
    // As it is shown: labels may hold whatever the matrix does.
    if let Some(exact) = instances.iter().position(|instance| instance.label == selector) {
        return Ok(vec![exact]);
    }
    let Some((stage, fixed)) = read_selector(selector) else {
        return Err(Error::Input(format!(
            "error: `{selector}` names no stage and no instance\nhelp: write `stage` or `stage[axis=label,…]`\n"
        )));
    };
    let name = |instance: &&Planned| instance.label.split('[').next() == Some(stage);
    let fits = |instance: &Planned| fixed.iter().all(|(axis, label)| has(instance, axis, label));
    let of_stage: Vec<&Planned> = instances.iter().filter(name).collect();
    let found: Vec<usize> = (0..instances.len()).filter(|&i| name(&&instances[i]) && fits(&instances[i])).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    if let Some((axis, label)) = fixed.iter().find(|(axis, label)| !of_stage.iter().any(|i| has(i, axis, label)))
        && !of_stage.is_empty()
    {
        let labels: Vec<String> = of_stage.iter().take(8).map(|instance| format!("`{}`", instance.label)).collect();
        let more = if of_stage.len() > 8 { ", …" } else { "" };
        return Err(Error::Input(format!(
            "error: no instance of `{stage}` has {axis}={label}\nhelp: it has {}{more}\n",
            labels.join(", ")
        )));
    }
    let labels = instances.iter().map(|instance| instance.label.as_str());
    let stages = instances.iter().filter_map(|instance| instance.label.split('[').next());
    let hint = mediant_spec::did_you_mean(selector, labels.chain(stages))
        .map(|near| format!("\nhelp: did you mean `{near}`?"))
        .unwrap_or_default();
    Err(Error::Input(format!("error: the pipeline has no stage `{selector}`{hint}\n")))
}

fn has(instance: &Planned, axis: &str, label: &str) -> bool {
    instance.axes.iter().any(|(a, l)| a == axis && l == label)
}

/// `stage` or `stage[axis=label,…]` in its parts.
fn read_selector(text: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let Some((stage, rest)) = text.split_once('[') else { return Some((text, Vec::new())) };
    let pairs = rest.strip_suffix(']')?.split(',').map(|pair| pair.split_once('='));
    Some((stage, pairs.collect::<Option<_>>()?))
}
