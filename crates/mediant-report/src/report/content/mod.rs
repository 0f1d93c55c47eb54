//! What a report shows of an artifact: chosen by what the artifact is and holds, not by the stage that made it.

mod dictionary;
mod effects;
mod faithfulness;
mod metrics;
mod rows;
mod scores;
mod shapes;

use mediant_artifact::{Artifact, Kind};

use super::document::Block;
use super::run::joined;
use crate::error::Result;
use crate::table::Cell;

/// Members that a picture shows.
const MOST_MEMBERS: usize = 24;

/// An artifact among those that one output of a stage has, a member an instance.
pub(crate) struct Member<'a> {
    /// Axes of the instance and parts of the key.
    pub(crate) axes: Vec<(String, String)>,
    pub(crate) artifact: &'a Artifact,
}

impl Member<'_> {
    /// `k=4,seed=0`; empty if there is one member alone.
    fn label(&self) -> String {
        joined(&self.axes)
    }

    /// [`Member::label`] as a cell.
    fn cell(&self) -> Cell {
        if self.axes.is_empty() { Cell::Empty } else { Cell::text(self.label()) }
    }

    /// What it shares with those that differ in their seed alone: `k=4`.
    fn group(&self) -> String {
        let others: Vec<(String, String)> = self.axes.iter().filter(|(axis, _)| axis != "seed").cloned().collect();
        if others.is_empty() { self.label() } else { joined(&others) }
    }
}

/// What there is to see of the members of an output; nothing of kinds that hold no results to look at.
///
/// # Errors
/// If an artifact is damaged.
pub(crate) fn blocks(kind: Kind, members: &[Member<'_>]) -> Result<Vec<Block>> {
    match kind {
        Kind::Metrics => metrics::blocks(members),
        Kind::Scores => scores::blocks(members),
        Kind::Effects => effects::blocks(members),
        Kind::Dictionary => dictionary::blocks(members),
        Kind::Table => rows::blocks(members),
        Kind::Model
        | Kind::Tokenizer
        | Kind::Tokens
        | Kind::Prompts
        | Kind::Labels
        | Kind::Activations
        | Kind::Directions
        | Kind::Files => Ok(Vec::new()),
    }
}

/// The members that pictures show, and a word on the rest.
fn pictured<'m, 'a>(members: &'m [Member<'a>], blocks: &mut Vec<Block>) -> &'m [Member<'a>] {
    let shown = &members[..members.len().min(MOST_MEMBERS)];
    if shown.len() < members.len() {
        blocks.push(Block::Text(format!("Pictures show the first {} of {} instances.", shown.len(), members.len())));
    }
    shown
}

fn artifacts<'a>(members: &[Member<'a>]) -> Vec<&'a Artifact> {
    members.iter().map(|member| member.artifact).collect()
}
