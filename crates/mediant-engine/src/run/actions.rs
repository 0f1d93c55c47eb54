//! What a worker is given: an action, and those that are done together with it.

use std::collections::BTreeSet;

use mediant_artifact::Digest;

use super::Run;
use crate::error::Result;
use crate::protocol::{Action, WireMember, WireSource};

impl Run<'_> {
    /// An action that has just been popped, and the ready ones that are done together with it.
    pub(super) fn gang(&mut self, first: usize) -> Result<Vec<usize>> {
        // A time limit is of one action's own work.
        let timed = |index: usize| self.plan.pipeline.stages[self.plan.instances[index].decl].timeout.is_some();
        let name = |index: usize| {
            let instance = &self.plan.instances[index];
            if self.alone[index] || timed(index) { None } else { Some((instance.uses, instance.bound.gang()?)) }
        };
        let Some(wanted) = name(first) else { return Ok(vec![first]) };
        let inputs = |action: &Action| -> Vec<(String, Vec<Digest>)> {
            let digests = |members: &[WireMember]| members.iter().map(|member| member.digest).collect();
            action.inputs.iter().map(|(port, members)| (port.clone(), digests(members))).collect()
        };
        let own = self.action(first)?;
        let mut contents = BTreeSet::from([own.content]);
        let mut joining = BTreeSet::new();
        for index in (0..self.plan.instances.len()).filter(|index| *index != first && !self.settled[*index]) {
            if self.waiting[index] > 0 || name(index).as_ref() != Some(&wanted) {
                continue;
            }
            let action = self.action(index)?;
            // Two of one content have one result; the second finds it when the first is done.
            if inputs(&action) == inputs(&own) && action.threads == own.threads && contents.insert(action.content) {
                joining.insert(index);
            }
        }
        let joined = self.queue.join(first, |index| joining.contains(&index));
        Ok([first].into_iter().chain(joined).collect())
    }

    pub(super) fn action(&self, index: usize) -> Result<Action> {
        let instance = &self.plan.instances[index];
        let content = self.judge.content_key(index).unwrap_or(Digest::from([0; 32]));
        let inputs = instance.inputs.iter().map(|port| {
            let members = port.members.iter().filter_map(|member| {
                let output = self.judge.resolve(member)?;
                Some(WireMember {
                    labels: member.labels.clone(),
                    name: member.name.clone(),
                    object: output.object,
                    digest: output.digest,
                })
            });
            (port.name.clone(), members.collect())
        });
        let sources = instance.sources.iter().map(|source| WireSource {
            field: source.key.field.clone(),
            path: source.path.clone(),
            globs: source.globs.clone(),
            digest: source.key.digest,
        });
        Ok(Action {
            label: instance.label.clone(),
            stage: instance.uses.to_owned(),
            version: instance.version,
            config: instance.bound.yaml().map_err(|error| crate::Error::Worker(error.to_string()))?,
            preimage: self.plan.preimage(index).to_json(),
            recipe: instance.recipe,
            content,
            inputs: inputs.collect(),
            outputs: instance
                .artifacts()
                .map(|(output, key)| (output.name.clone(), key.to_owned(), output.kind))
                .collect(),
            sources: sources.collect(),
            threads: instance.threads(self.options.cpus),
            checkpoint_seconds: self.plan.project.config.checkpoint_seconds,
            device: self.options.device,
            force: self.forced.contains(&index),
            log: self.record.log(&instance.label),
            run: self.record.name().to_owned(),
        })
    }
}
