//! Which edges are the circuit: those that carry a variable that differs within the pairs and is needed for the answer.

use std::collections::{BTreeMap, BTreeSet};

use mediant_artifact::{Mediator, ScoreRow};

use super::wiring::{Var, Wiring};
use crate::{Graph, Result};

/// What is needed of variables where: by receiver, in the names of [`Graph`].
type Needs = BTreeMap<String, BTreeSet<Var>>;

impl Wiring {
    /// Every edge of the model's graph: 1 if it is of the circuit, or else 0.
    ///
    /// # Errors
    /// As [`Graph::new`].
    pub(crate) fn truth(&self, pairs: u64) -> Result<Vec<ScoreRow>> {
        let (needs, writes) = (self.needs(), self.writes());
        let carries = |mediator: &Mediator| {
            let written = mediator.source.as_ref().and_then(|source| writes.get(source));
            let needed = mediator.target.as_ref().and_then(|target| needs.get(target));
            written.zip(needed).is_some_and(|(written, needed)| {
                written.intersection(needed).any(|var| *var != self.bos && *var != self.position)
            })
        };
        let row = |mediator: Mediator| {
            let value = f64::from(u8::from(carries(&mediator)));
            ScoreRow { mediator, value, numerator: value, denominator: 1.0, n: pairs, low: None, high: None }
        };
        Ok(Graph::new(&self.config()?)?.mediators().into_iter().map(row).collect())
    }

    /// The variables on the way to the answer that differ between prompts: all but BOS and position.
    pub(crate) fn on_the_way(&self) -> BTreeSet<Var> {
        let needed = self.needs().into_values().flatten();
        needed.filter(|var| *var != self.bos && *var != self.position).collect()
    }

    /// By node, the variables that it writes.
    fn writes(&self) -> Needs {
        let mut writes = Needs::from([("input".to_owned(), BTreeSet::from([self.token, self.bos]))]);
        for (at, layer) in self.layers.iter().enumerate() {
            for (slot, head) in layer.heads.iter().enumerate().filter_map(|(slot, head)| Some((slot, head.as_ref()?))) {
                writes.insert(format!("a{at}.h{slot}"), BTreeSet::from([head.write]));
            }
            let written = layer.neurons.iter().flat_map(|neuron| neuron.writes.iter().map(|(var, ..)| *var));
            writes.insert(format!("m{at}"), written.collect());
        }
        writes
    }

    /// By receiver, the variables that it reads for the answer: those that go into what a later receiver needs.
    fn needs(&self) -> Needs {
        let mut needs = Needs::from([("logits".to_owned(), BTreeSet::from([self.answer]))]);
        let mut needed = BTreeSet::from([self.answer]);
        // Against the order of a pass: all that reads what a part writes comes before the part.
        for (at, layer) in self.layers.iter().enumerate().rev() {
            let neurons =
                layer.neurons.iter().filter(|neuron| neuron.writes.iter().any(|(var, ..)| needed.contains(var)));
            let read: BTreeSet<Var> = neurons.flat_map(|neuron| neuron.reads.iter().map(|(var, ..)| *var)).collect();
            needed.extend(&read);
            needs.insert(format!("m{at}"), read);
            let heads = layer.heads.iter().enumerate().filter_map(|(slot, head)| Some((slot, head.as_ref()?)));
            let heads: Vec<_> = heads.filter(|(_, head)| needed.contains(&head.write)).collect();
            for (slot, head) in heads {
                let reads = [
                    ("q", head.scores.iter().filter_map(|score| score.query).collect::<BTreeSet<_>>()),
                    ("k", head.scores.iter().map(|score| score.key).collect()),
                    ("v", BTreeSet::from([head.value])),
                ];
                for (part, read) in reads {
                    needed.extend(&read);
                    needs.insert(format!("a{at}.h{slot}<{part}>"), read);
                }
            }
        }
        needs
    }
}
