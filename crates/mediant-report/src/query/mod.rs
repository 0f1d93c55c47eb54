//! SQL over the tables of artifacts.
//!
//! A table is named by what made it: `eval` is the main table of the default output of stage `eval`, `sae.curve` its table
//! `curve`, `tokens.train` the main table of its output `train`. A stage with a matrix is the union of its instances, with the
//! axes as extra columns; `"sae[name=topk16]"` and `"sae[name=topk16].curve"` select among them, in double quotes because of
//! the brackets. An axis whose name a column of the table has already, such as `seed` of metrics, is called `axis_seed`.

mod frame;
mod sql;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mediant_artifact::VectorEntry;
use mediant_spec::did_you_mean;
use polars::prelude::*;
use polars::sql::SQLContext;

use crate::error::{Error, Result};
use crate::number::plural;
use crate::table::TextTable;

/// A table of one artifact.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The stage, with the output where it is not the default one: `sae`, `tokens.train`.
    pub name: String,
    /// The axes of the instance, and the keys of a keyed output: (`name`, `topk16`), (`seed`, `0`).
    pub axes: Vec<(String, String)>,
    /// The table's name in the artifact: `curve`.
    pub table: String,
    /// Whether `name` alone means this table.
    pub main: bool,
    /// Set on tables of vectors: what one value of the binary column is.
    pub vectors: Option<VectorEntry>,
    /// Its Parquet files, in order.
    pub files: Vec<PathBuf>,
}

/// Tables that can be queried. Nothing is read before a query names it.
#[derive(Clone, Debug, Default)]
pub struct Database {
    /// By name as it stands in a query, without brackets.
    tables: BTreeMap<String, Vec<Source>>,
}

/// A query that has been checked but not run.
pub struct Query {
    frame: LazyFrame,
    vectors: Vec<VectorEntry>,
}

impl Database {
    /// Collects tables.
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        let mut tables: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        let mut mains: BTreeMap<String, Vec<Source>> = BTreeMap::new();
        for source in sources {
            if source.main {
                mains.entry(source.name.clone()).or_default().push(source.clone());
            }
            tables.entry(format!("{}.{}", source.name, source.table)).or_default().push(source);
        }
        // An output wins over a table of the default output with the same name.
        tables.append(&mut mains);
        Self { tables }
    }

    /// The names that a query can use, and how many instances each unites.
    pub fn names(&self) -> impl Iterator<Item = (&str, usize)> {
        self.tables.iter().map(|(name, sources)| (name.as_str(), sources.len()))
    }

    /// Checks a query: one SELECT statement in the dialect of polars.
    ///
    /// # Errors
    /// What is wrong with the SQL, or the names there are if it names a table or column that is not there.
    pub fn query(&self, text: &str) -> Result<Query> {
        let parsed = sql::parse(text)?;
        let mut context = SQLContext::new();
        let mut vectors = Vec::new();
        for name in &parsed.tables {
            let sources = self.resolve(name)?;
            vectors.extend(sources.iter().filter_map(|source| source.vectors.clone()));
            context.register(name, frame::union(&sources)?);
        }
        let mut frame = context.execute(&parsed.text).map_err(Error::polars)?;
        frame.collect_schema().map_err(Error::polars)?;
        Ok(Query { frame, vectors })
    }

    /// The tables meant by a name such as `eval`, `sae.curve`, `sae[seed=0].curve`.
    fn resolve(&self, name: &str) -> Result<Vec<&Source>> {
        let unknown = |suggestion: Option<&str>, known: String| Error::UnknownTable {
            name: name.to_string(),
            suggestion: suggestion.map(str::to_string),
            known,
        };
        let (plain, inside) = selection(name);
        let Some(sources) = self.tables.get(&plain) else {
            let entry = |(name, instances): (&str, usize)| {
                if instances == 1 {
                    format!("  {name}")
                } else {
                    format!("  {name}  ({})", plural(instances as u64, "instance"))
                }
            };
            let known: Vec<String> = self.names().map(entry).collect();
            return Err(unknown(did_you_mean(&plain, self.tables.keys().map(String::as_str)), known.join("\n")));
        };
        let found: Vec<&Source> = sources.iter().filter(|source| source.selected(&inside)).collect();
        if found.is_empty() {
            let label = |source: &Source| format!("  \"{plain}[{}]\"", source.labels().join(","));
            return Err(unknown(None, sources.iter().map(label).collect::<Vec<_>>().join("\n")));
        }
        Ok(found)
    }
}

impl Query {
    /// Runs the query. At most `limit` rows come back, with a note if there are more.
    ///
    /// # Errors
    /// What polars says of the query or of a file.
    pub fn table(self, limit: Option<usize>) -> Result<TextTable> {
        let frame = match limit.and_then(|rows| IdxSize::try_from(rows).ok()) {
            // One row more tells whether there are more.
            Some(rows) => self.frame.limit(rows.saturating_add(1)),
            None => self.frame,
        };
        let result = frame.collect().map_err(Error::polars)?;
        let shown = limit.map_or(result.height(), |rows| rows.min(result.height()));
        let mut table = frame::table(&result.head(Some(shown)), &self.vectors);
        if shown < result.height() {
            table.note(format!("the first {}; there are more", plural(shown as u64, "row")));
        }
        Ok(table)
    }

    /// Runs the query and writes its result as one Parquet file, streaming; an older file is replaced when all is written.
    ///
    /// # Errors
    /// What polars says of the query or of a file, or that the file cannot be written.
    pub fn write_parquet(self, path: &Path) -> Result<()> {
        let failed = |source: std::io::Error| Error::Write { path: path.to_owned(), source };
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".query-")
            .suffix(".parquet")
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(folder)
            .map_err(failed)?;
        let target = SinkTarget::Path(frame::path(file.path())?);
        let format = FileWriteFormat::Parquet(Arc::new(ParquetWriteOptions::default()));
        let sink = self.frame.sink(SinkDestination::File { target }, format, UnifiedSinkArgs::default());
        sink.and_then(|frame| frame.collect_with_engine(Engine::Streaming)).map_err(Error::polars)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl Source {
    /// `name=topk16`, `seed=0`.
    fn labels(&self) -> Vec<String> {
        self.axes.iter().map(|(axis, label)| format!("{axis}={label}")).collect()
    }

    /// Whether every bracket selects this instance: by axes in any order, or by the whole label, which may hold commas.
    fn selected(&self, inside: &[&str]) -> bool {
        let labels = self.labels();
        let has = |pair: &str| labels.iter().any(|label| label == pair.trim());
        inside.iter().all(|text| text.split(',').all(has) || labels.join(",") == *text)
    }
}

/// Takes the brackets out of a name: (`sae.curve`, [`seed=0`]) of `sae[seed=0].curve`.
fn selection(name: &str) -> (String, Vec<&str>) {
    let (mut plain, mut inside) = (String::new(), Vec::new());
    let mut rest = name;
    while let Some((before, within, after)) =
        rest.split_once('[').and_then(|(b, r)| r.split_once(']').map(|(w, a)| (b, w, a)))
    {
        plain.push_str(before);
        inside.push(within);
        rest = after;
    }
    plain.push_str(rest);
    (plain, inside)
}

impl Error {
    /// The first paragraph of what polars says: what follows is its plan, which means nothing to who wrote SQL.
    #[expect(clippy::needless_pass_by_value, reason = "handed to map_err")]
    fn polars(error: PolarsError) -> Self {
        let text = error.to_string();
        let first = text.split("\n\nResolved plan").next().unwrap_or(&text);
        Self::Query(first.to_string())
    }
}
