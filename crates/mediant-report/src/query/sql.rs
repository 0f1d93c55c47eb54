//! What a query asks for, before polars sees it.
//!
//! polars takes the first part of a dotted name for the table and drops the rest in silence (`FROM sae.curve` would read
//! `sae`), so dotted names are put in quotes here. Knowing the names also means that no other table is opened.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{Ident, ObjectName, ObjectNamePart, Query, Statement, Visit, VisitMut, Visitor, VisitorMut};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::{Parser, ParserOptions};

use crate::error::{Error, Result};

/// A query and the tables it reads.
pub(super) struct Parsed {
    pub(super) text: String,
    pub(super) tables: BTreeSet<String>,
}

/// Parses one SELECT statement.
pub(super) fn parse(text: &str) -> Result<Parsed> {
    // As polars parses.
    let options = ParserOptions { trailing_commas: true, ..ParserOptions::default() };
    let parser = Parser::new(&GenericDialect).with_options(options).try_with_sql(text);
    let statements =
        parser.and_then(|mut parser| parser.parse_statements()).map_err(|e| Error::Sql(message(&e.to_string())))?;
    let [Statement::Query(query)] = statements.as_slice() else {
        let first = statements.iter().find(|s| !matches!(s, Statement::Query(_)));
        let what = first.map_or_else(|| format!("{} statements", statements.len()), |s| s.to_string());
        return Err(Error::NotAQuery(what.chars().take(80).collect()));
    };
    let mut query = query.clone();
    let mut named = CommonTables::default();
    let _: ControlFlow<()> = Visit::visit(&query, &mut named);
    let mut tables = Tables { common: named.0, found: BTreeSet::new(), dotted: false };
    let _: ControlFlow<()> = VisitMut::visit(&mut query, &mut tables);
    Ok(Parsed { text: if tables.dotted { query.to_string() } else { text.to_string() }, tables: tables.found })
}

/// Says how to write the names that SQL cannot parse by itself.
fn message(error: &str) -> String {
    let error = error.strip_prefix("sql parser error: ").unwrap_or(error);
    format!(
        "{error}\n\nnames with brackets or other signs stand in double quotes: \"sae[seed=0].curve\", \"acts.blocks.2.hook_resid_post\""
    )
}

/// The names that `WITH` introduces.
#[derive(Default)]
struct CommonTables(BTreeSet<String>);

impl Visitor for CommonTables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = query.with.iter().flat_map(|with| &with.cte_tables);
        self.0.extend(tables.map(|table| table.alias.name.value.clone()));
        ControlFlow::Continue(())
    }
}

struct Tables {
    common: BTreeSet<String>,
    found: BTreeSet<String>,
    dotted: bool,
}

impl VisitorMut for Tables {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let parts: Vec<&str> =
            relation.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect();
        let name = parts.join(".");
        if parts.len() > 1 {
            self.dotted = true;
            relation.0 = vec![ObjectNamePart::Identifier(Ident::with_quote('"', name.clone()))];
        }
        if !self.common.contains(&name) {
            self.found.insert(name);
        }
        ControlFlow::Continue(())
    }
}
