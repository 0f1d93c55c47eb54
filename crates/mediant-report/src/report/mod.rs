//! A report on a run: one HTML file, or Markdown, or a card of what is to be told of a study.

mod card;
mod content;
mod document;
mod html;
mod markdown;
mod plot;
mod run;
mod sections;
mod series;
mod standing_cost;

pub use card::Card;
pub(crate) use plot::HeatMap;
pub use run::{Cost, InstanceRun, ResultFile, Run};

use crate::error::Result;
use document::Section;

/// A report, read from its artifacts and not yet written.
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    store: std::path::PathBuf,
    sections: Vec<Section>,
}

impl Report {
    /// Reads what there is to report of a run.
    ///
    /// # Errors
    /// If an artifact is damaged.
    pub fn of(run: &Run) -> Result<Self> {
        let mut sections = sections::of(run)?;
        document::limit_data(&mut sections);
        Ok(Self { title: run.pipeline.clone(), store: run.store.clone(), sections })
    }
}
