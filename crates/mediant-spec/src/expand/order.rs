//! Producers before consumers; among those that are ready, the one written first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::wiring::{End, Wire};
use crate::diagnostic::Diagnostic;
use crate::pipeline::Pipeline;

/// The stages in order. Stages in a loop, or behind one, are left out, and a loop is an error.
pub(super) fn sort(pipeline: &Pipeline, wired: &[Option<Vec<Wire<'_>>>], errors: &mut Vec<Diagnostic>) -> Vec<usize> {
    let ends = |stage: usize| wired[stage].iter().flatten().flat_map(|wire| &wire.ends);
    let mut missing: Vec<usize> = (0..wired.len()).map(|stage| ends(stage).count()).collect();
    let mut consumers = vec![Vec::new(); wired.len()];
    for (stage, end) in (0..wired.len()).flat_map(|stage| ends(stage).map(move |end| (stage, end))) {
        consumers[end.stage].push(stage);
    }
    let mut ready: BinaryHeap<Reverse<usize>> =
        (0..wired.len()).filter(|stage| missing[*stage] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(wired.len());
    while let Some(Reverse(stage)) = ready.pop() {
        order.push(stage);
        for &consumer in &consumers[stage] {
            missing[consumer] -= 1;
            if missing[consumer] == 0 {
                ready.push(Reverse(consumer));
            }
        }
    }
    if let Some(first) = missing.iter().position(|missing| *missing > 0) {
        // Each stage that is left needs another that is left, so following them ends in a loop.
        errors.push(loop_error(pipeline, first, |stage| ends(stage).find(|end| missing[end.stage] > 0)));
    }
    order
}

fn loop_error<'p>(pipeline: &Pipeline, first: usize, needs: impl Fn(usize) -> Option<&'p End<'p>>) -> Diagnostic {
    let mut path: Vec<(usize, &End<'_>)> = Vec::new();
    let mut stage = first;
    while let Some(end) = needs(stage).filter(|_| path.iter().all(|(earlier, _)| *earlier != stage)) {
        path.push((stage, end));
        stage = end.stage;
    }
    let start = path.iter().position(|(earlier, _)| *earlier == stage).unwrap_or(0);
    let name = |stage: usize| pipeline.stages.get_index(stage).map_or("", |(name, _)| name.as_str());
    let names: Vec<String> = path[start..].iter().map(|(stage, _)| format!("`{}`", name(*stage))).collect();
    let message = format!("stages need each other in a loop: {} → `{}`", names.join(" → "), name(stage));
    let mut error = Diagnostic::new("loop", message);
    for (index, (consumer, end)) in path[start..].iter().enumerate() {
        let text = format!("`{}` needs `{}`", name(*consumer), name(end.stage));
        let span = end.reference.stage.span;
        error = if index == 0 { error.at(span, text) } else { error.also(span, text) };
    }
    error
}
