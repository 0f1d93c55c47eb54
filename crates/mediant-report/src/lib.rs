//! What people see of artifacts, runs and pipelines: tables, drawings, differences, SQL.
//!
//! Everything here turns values into text. Nothing knows of the engine: callers hand over neutral structures, so each part can
//! be tested by itself.

mod dag;
mod diff;
mod error;
pub mod number;
mod page;
mod query;
mod report;
mod show;
mod stages;
mod table;
mod text;
mod vector;
mod xml;

pub use dag::{Edge, Graph, Node, State};
pub use diff::{Diff, FieldChange, Instance, InstanceDiff, Metric, MetricChange, OutputChange, Recipe, Snapshot};
pub use error::{Error, Result};
pub use page::Page;
pub use query::{Database, Query, Source};
pub use report::{Card, Cost, InstanceRun, Report, ResultFile, Run};
pub use show::{Decode, ShowOptions, head, main_table, metrics_table, scores_table, show};
pub use stages::{
    Arity, Field, InputsDoc, OutputDoc, PortDoc, StageDoc, pipeline_schema, stage_index, stage_list, stage_page,
    stage_text,
};
pub use table::{Cell, TextTable};
pub use text::{Paint, Terminal};
