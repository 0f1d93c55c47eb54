//! What of a plan is there already, what will run, and why.
//!
//! A recipe hit needs the record, its input digests equal to those now recorded for its inputs, and the objects intact.
//! Otherwise, once the inputs exist, the content key is looked up: a hit there is early cutoff.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Digest, MANIFEST};
use mediant_store::{Id, ObjectState, Outputs};
use rayon::prelude::*;
use serde::Deserialize;

use super::{Plan, PlannedMember, output_name, preimage_with};
use crate::context::Device;
use crate::error::Result;
use crate::events::Hit;
use crate::keys::{Domain, Origin};

/// The result of an instance, found in the store or just made.
#[derive(Debug, Clone)]
pub struct Known {
    /// By the name of [`output_name`], in its order. A list and not a map: most have one entry, and there is one for each of
    /// ten thousand instances.
    outputs: Vec<(String, KnownOutput)>,
    /// Where it was made and the numbers that stand for it, for the lock file.
    pub made: Made,
}

impl Known {
    pub(crate) fn new(outputs: &Outputs, made: Made) -> Self {
        Self { outputs: known_outputs(outputs).map(|(name, output)| (name.clone(), output)).collect(), made }
    }

    /// Its artifacts, by the name of [`output_name`] and in its order.
    pub fn outputs(&self) -> &[(String, KnownOutput)] {
        &self.outputs
    }

    /// One of its artifacts.
    pub fn output(&self, name: &str) -> Option<KnownOutput> {
        self.outputs.iter().find(|(known, _)| known == name).map(|(_, output)| *output)
    }
}

fn known_outputs(outputs: &Outputs) -> impl Iterator<Item = (&String, KnownOutput)> {
    outputs.iter().map(|(name, record)| {
        (name, KnownOutput { object: record.object, digest: Digest::from(*record.logical.as_bytes()) })
    })
}

/// The part of the provenance that lock files show.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub struct Made {
    /// Kind of device that computed it.
    #[serde(default)]
    pub device: String,
    /// Headline metrics, if it has any.
    #[serde(default)]
    pub metrics: BTreeMap<String, f64>,
}

/// One artifact of a known result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownOutput {
    /// Its bytes.
    pub object: Id,
    /// Its logical digest.
    pub digest: Digest,
}

/// What will become of an instance.
#[derive(Debug, Clone)]
pub enum Status {
    /// The result is there.
    Cached(Known, Hit),
    /// It will run.
    Run(Why),
    /// It depends on an instance that will run; it may still turn out to be cached.
    Depends(usize),
}

/// Why an instance will run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// No result is recorded for this recipe, nor for this config on these inputs.
    New,
    /// A result is recorded, made from inputs that differ from the present ones.
    InputsDiffer,
    /// The recorded result is damaged or gone.
    Damaged {
        /// The object.
        object: Id,
        /// What is wrong.
        reason: String,
    },
    /// The user asked for it.
    Forced,
    /// The recorded result was made on another kind of device, and that was to count.
    OtherDevice(String),
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::New => f.write_str("no result for this recipe yet"),
            Self::InputsDiffer => f.write_str("its inputs now hold other values than when it ran"),
            Self::Damaged { reason, .. } => write!(f, "its stored result is damaged: {reason}"),
            Self::Forced => f.write_str("forced"),
            Self::OtherDevice(device) => write!(f, "its result was made on {device}"),
        }
    }
}

/// Decides about instances in topological order, as results become known.
pub struct Judge<'a> {
    plan: &'a Plan,
    forced: BTreeSet<usize>,
    /// With `--device-strict`: the only device whose results count.
    strict: Option<Device>,
    /// What the store holds under each recipe key, read ahead in parallel.
    found: Vec<Option<Found>>,
    known: Vec<Option<Known>>,
}

/// What an action record says, without the parts that only people read.
struct Found {
    inputs: Vec<Id>,
    known: Known,
    damage: Option<(Id, String)>,
}

impl<'a> Judge<'a> {
    /// Reads what the store knows of every wanted instance.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn new(plan: &'a Plan, forced: BTreeSet<usize>, strict: Option<Device>) -> Result<Self> {
        let found = plan
            .instances
            .par_iter()
            .zip(&plan.wanted)
            .map(|(instance, wanted)| if *wanted { lookup(plan, instance.recipe) } else { Ok(None) })
            .collect::<Result<Vec<_>>>()?;
        let known = vec![None; plan.instances.len()];
        Ok(Self { plan, forced, strict, found, known })
    }

    /// The result of an instance, once known.
    pub fn known(&self, index: usize) -> Option<&Known> {
        self.known[index].as_ref()
    }

    /// All results.
    pub fn into_known(self) -> Vec<Option<Known>> {
        self.known
    }

    /// Records the result of an instance.
    pub fn learn(&mut self, index: usize, known: Known) {
        self.known[index] = Some(known);
    }

    /// What is at a port's member, once its producer's result is known.
    pub fn resolve(&self, member: &PlannedMember) -> Option<KnownOutput> {
        let producer = &self.plan.instances[member.producer];
        let name = output_name(&producer.outputs[member.output].name, &member.key);
        self.known[member.producer].as_ref()?.output(&name)
    }

    /// The content key of an instance; `None` until all its inputs are known.
    pub fn content_key(&self, index: usize) -> Option<Digest> {
        let instance = &self.plan.instances[index];
        let members = || instance.inputs.iter().flat_map(|port| &port.members);
        if members().any(|member| self.resolve(member).is_none()) {
            return None;
        }
        let origin = |member: &PlannedMember| match self.resolve(member) {
            Some(output) => Origin::Content(output.digest),
            None => unreachable!("every member was resolved above"),
        };
        Some(preimage_with(instance, origin).key(Domain::Content))
    }

    /// Digests of an instance's inputs in port order; the first input that is not known yet otherwise.
    pub fn input_digests(&self, index: usize) -> std::result::Result<Vec<Id>, usize> {
        self.plan.instances[index]
            .inputs
            .iter()
            .flat_map(|port| &port.members)
            .map(|member| {
                self.resolve(member).map(|output| Id::from_bytes(*output.digest.as_bytes())).ok_or(member.producer)
            })
            .collect()
    }

    /// Decides about an instance, and learns its result if it is there.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub fn decide(&mut self, index: usize) -> Result<Status> {
        let inputs = match self.input_digests(index) {
            Ok(inputs) => inputs,
            Err(producer) => return Ok(Status::Depends(producer)),
        };
        if self.forced.contains(&index) {
            return Ok(Status::Run(Why::Forced));
        }
        // Results with the same values share an object, so what was damaged may have been made again by another action.
        if self.found[index].as_ref().is_some_and(|found| found.damage.is_some()) {
            self.found[index] = lookup(self.plan, self.plan.instances[index].recipe)?;
        }
        let mut why = Why::New;
        if let Some(found) = &self.found[index] {
            if found.inputs != inputs {
                why = Why::InputsDiffer;
            } else if let Some((object, reason)) = &found.damage {
                why = Why::Damaged { object: *object, reason: reason.clone() };
            } else if let Some(strict) = self.strict.filter(|strict| strict.kind() != found.known.made.device) {
                why = Why::OtherDevice(format!("{} and not on {}", found.known.made.device, strict.kind()));
            } else {
                let known = found.known.clone();
                self.known[index] = Some(known.clone());
                return Ok(Status::Cached(known, Hit::Recipe));
            }
        }
        if matches!(why, Why::New | Why::InputsDiffer)
            && let Some(known) = self.by_content(index)?
        {
            self.known[index] = Some(known.clone());
            return Ok(Status::Cached(known, Hit::Content));
        }
        Ok(Status::Run(why))
    }

    fn by_content(&self, index: usize) -> Result<Option<Known>> {
        let Some(key) = self.content_key(index) else { return Ok(None) };
        let Some(content) = self.plan.store.read_content(id(key))? else { return Ok(None) };
        let Some(found) = lookup_id(self.plan, content.action)? else { return Ok(None) };
        let same_device = self.strict.is_none_or(|strict| strict.kind() == found.known.made.device);
        // The action that the content key leads to may since have been replaced by one with other inputs.
        let same =
            known_outputs(&content.outputs).eq(found.known.outputs().iter().map(|(name, output)| (name, *output)));
        Ok((found.damage.is_none() && same_device && same).then_some(found.known))
    }
}

/// A store's id of an engine's digest.
pub(crate) fn id(digest: Digest) -> Id {
    Id::from_bytes(*digest.as_bytes())
}

fn lookup(plan: &Plan, recipe: Digest) -> Result<Option<Found>> {
    lookup_id(plan, id(recipe))
}

fn lookup_id(plan: &Plan, recipe: Id) -> Result<Option<Found>> {
    let Some(record) = plan.store.read_action(recipe)? else { return Ok(None) };
    if !record.cacheable {
        return Ok(None);
    }
    let mut damage = None;
    for (name, output) in &record.outputs {
        match plan.store.check(output.object, MANIFEST, &output.files, &plan.stats)? {
            ObjectState::Intact => {}
            ObjectState::Missing => damage = Some((output.object, format!("output `{name}` is gone"))),
            ObjectState::Damaged { file, why } => {
                damage = Some((output.object, format!("{file} of output `{name}`: {why}")));
            }
        }
    }
    let made = record.provenance.parse().unwrap_or_default();
    Ok(Some(Found { inputs: record.inputs, known: Known::new(&record.outputs, made), damage }))
}
