//! Which ready action goes next: the one with the longest chain of work behind it, when what it needs is free.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::graph::NodeIndex;

use crate::plan::Plan;

/// What an action holds while it runs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Need {
    pub(super) cpus: usize,
    pub(super) memory: u64,
    pub(super) gpus: u32,
}

/// Ready actions and free resources.
pub(super) struct Queue {
    needs: Vec<Need>,
    priorities: Vec<u32>,
    /// Longest path first; among equals the order of the plan.
    ready: BinaryHeap<(u32, Reverse<usize>)>,
    /// What runs: actions that go together, and what they hold as long as one of them runs.
    running: Vec<(Vec<usize>, Need)>,
    jobs: usize,
    cpus: usize,
    free_cpus: usize,
    memory: u64,
    free_memory: u64,
    free_gpus: u32,
}

impl Queue {
    pub(super) fn of(needs: Vec<Need>, priorities: Vec<u32>, cpus: usize, jobs: usize) -> Self {
        let memory = available_memory();
        // One GPU a run: stages on a GPU go one after the other.
        Self {
            needs,
            priorities,
            ready: BinaryHeap::new(),
            running: Vec::new(),
            jobs,
            cpus,
            free_cpus: cpus,
            memory,
            free_memory: memory,
            free_gpus: 1,
        }
    }

    pub(super) fn push(&mut self, index: usize) {
        self.ready.push((self.priorities[index], Reverse(index)));
    }

    /// The next action, if there is one and what it needs is free; its resources are taken. An action that does not
    /// fit is waited for rather than overtaken, so that a large one is not put off for ever.
    pub(super) fn pop(&mut self) -> Option<usize> {
        let (_, Reverse(index)) = *self.ready.peek()?;
        let need = self.need(index);
        let fits = self.running.len() < self.jobs
            && need.cpus <= self.free_cpus
            && need.memory <= self.free_memory
            && need.gpus <= self.free_gpus;
        if !fits {
            return None;
        }
        self.ready.pop();
        self.free_cpus -= need.cpus;
        self.free_memory -= need.memory;
        self.free_gpus -= need.gpus;
        self.running.push((vec![index], need));
        Some(index)
    }

    /// The ready actions that `joins` accepts and that there is memory for, in the order of the plan. They share all else with
    /// `first`, which has just been popped.
    pub(super) fn join(&mut self, first: usize, joins: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut candidates: Vec<usize> =
            self.ready.iter().map(|(_, Reverse(index))| *index).filter(|index| joins(*index)).collect();
        candidates.sort_unstable();
        let mut joined = Vec::new();
        for index in candidates {
            let memory = self.need(index).memory;
            let Some((members, held)) = self.running.iter_mut().find(|(members, _)| members.contains(&first)) else {
                break;
            };
            if memory > self.free_memory {
                break;
            }
            self.free_memory -= memory;
            held.memory += memory;
            members.push(index);
            joined.push(index);
        }
        self.ready.retain(|(_, Reverse(index))| !joined.contains(index));
        joined
    }

    /// Notes that an action is over; the last of those that go together gives back what they held.
    pub(super) fn release(&mut self, index: usize) {
        let Some(place) = self.running.iter().position(|(members, _)| members.contains(&index)) else { return };
        let (members, need) = &mut self.running[place];
        members.retain(|member| *member != index);
        if members.is_empty() {
            self.free_cpus += need.cpus;
            self.free_memory += need.memory;
            self.free_gpus += need.gpus;
            self.running.swap_remove(place);
        }
    }

    /// What an action says that it needs and what there was at the start, in bytes, where the first is more.
    pub(super) fn short_of_memory(&self, index: usize) -> Option<(u64, u64)> {
        let asked = self.needs[index].memory;
        (asked > self.memory).then_some((asked, self.memory))
    }

    /// What an action needs; never more than there is, so that one that asks for too much runs alone.
    fn need(&self, index: usize) -> Need {
        let Need { cpus, memory, gpus } = self.needs[index];
        Need { cpus: cpus.min(self.cpus), memory: memory.min(self.memory), gpus: gpus.min(1) }
    }
}

/// For each instance the number of instances on the longest path that starts with it.
pub(super) fn priorities(plan: &Plan) -> Vec<u32> {
    let mut longest = vec![1; plan.instances.len()];
    // Instances are in topological order, so consumers come before their producers here.
    for index in (0..plan.instances.len()).rev() {
        let behind = plan.graph.neighbors(NodeIndex::new(index)).map(|next| longest[next.index()]).max().unwrap_or(0);
        longest[index] = 1 + behind;
    }
    longest
}

/// What the kernel says is available; as good as unlimited where it does not say.
fn available_memory() -> u64 {
    let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .map_or(u64::MAX, |kilobytes| kilobytes * 1024)
}
