//! A difference in words and tables.

use super::{Diff, FieldChange, InstanceDiff, MetricChange, OutputChange};
use crate::number::plural;
use crate::table::{Cell, TextTable};
use crate::text::{Paint, Terminal, cut, one_line};

const SHORT: usize = 12;
const LONGEST_VALUE: usize = 60;

impl Diff {
    /// For the terminal.
    pub fn to_terminal(&self, terminal: Terminal) -> String {
        let mut out = format!("{} → {}: {}\n", one_line(&self.old), one_line(&self.new), self.summary());
        let block = |lines: Vec<String>, out: &mut String| {
            if !lines.is_empty() {
                out.push('\n');
                lines.iter().for_each(|line| out.push_str(&format!("{line}\n")));
            }
        };
        block(
            self.sources.iter().map(|change| format!("{} source  {}", mark(change), field(change))).collect(),
            &mut out,
        );
        let entry =
            |sign: &str, paint: Paint, label: &String| terminal.paint(paint, &format!("{sign} {}", one_line(label)));
        block(self.removed.iter().map(|label| entry("-", Paint::Red, label)).collect(), &mut out);
        block(self.added.iter().map(|label| entry("+", Paint::Green, label)).collect(), &mut out);
        for instance in &self.changed {
            let mut lines = vec![entry("~", Paint::Yellow, &instance.instance)];
            lines.extend(instance.lines().into_iter().map(|(what, text)| format!("    {what:<8}{text}")));
            block(lines, &mut out);
        }
        let metrics = self.metrics();
        if !metrics.is_empty() {
            out.push('\n');
            out.push_str(&metrics.to_terminal(terminal));
        }
        out
    }

    /// As Markdown, for a pull request.
    pub fn to_markdown(&self) -> String {
        let code = |text: &str| format!("`{}`", one_line(text).replace('`', "'"));
        let mut out = format!("**{} → {}**: {}\n", code(&self.old), code(&self.new), self.summary());
        let mut items: Vec<String> = Vec::new();
        items.extend(self.sources.iter().map(|change| format!("- source {}", code(&field(change)))));
        items.extend(self.removed.iter().map(|label| format!("- removed {}", code(label))));
        items.extend(self.added.iter().map(|label| format!("- added {}", code(label))));
        for instance in &self.changed {
            items.push(format!("- changed {}", code(&instance.instance)));
            items.extend(instance.lines().into_iter().map(|(what, text)| format!("  - {what}: {}", code(&text))));
        }
        if !items.is_empty() {
            out.push_str(&format!("\n{}\n", items.join("\n")));
        }
        let metrics = self.metrics();
        if !metrics.is_empty() {
            out.push_str(&format!("\n{}", metrics.to_markdown()));
        }
        out
    }

    /// For machines: all fields, digests in full, numbers unrounded.
    pub fn to_json(&self) -> serde_json::Value {
        // Serialising plain structs with string keys cannot fail.
        serde_json::to_value(self).unwrap_or_default()
    }

    fn summary(&self) -> String {
        if self.is_empty() {
            return format!("no difference in {}", plural(self.same as u64, "instance"));
        }
        let mut parts = vec![
            format!("{} added", self.added.len()),
            format!("{} removed", self.removed.len()),
            format!("{} changed", self.changed.len()),
            format!("{} the same", self.same),
        ];
        let irreproducible = self.changed.iter().filter(|i| i.irreproducible).count();
        if irreproducible > 0 {
            parts.push(format!("{irreproducible} not reproduced"));
        }
        parts.join(", ")
    }

    /// The metrics of all changed instances in one table.
    fn metrics(&self) -> TextTable {
        let mut table = TextTable::new(["instance", "metric", "unit", "old", "new", "difference", "relative"]);
        for instance in &self.changed {
            for MetricChange { name, unit, old, new, difference, relative } in &instance.metrics {
                table.push([
                    Cell::text(&instance.instance),
                    Cell::text(name),
                    if unit.is_empty() { Cell::Empty } else { Cell::text(unit) },
                    Cell::or_empty(*old, Cell::Float),
                    Cell::or_empty(*new, Cell::Float),
                    Cell::or_empty(*difference, Cell::Signed),
                    Cell::or_empty(*relative, Cell::Percent),
                ]);
            }
        }
        table.without_empty_columns(&["instance", "metric", "old", "new", "difference", "relative"])
    }
}

impl InstanceDiff {
    /// What changed, but for the metrics: (what, text).
    fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines: Vec<(&str, String)> = self.recipe.iter().map(|change| ("recipe", field(change))).collect();
        if let Some((old, new)) = &self.key {
            lines.push(("key", format!("{} → {}", short(old), short(new))));
        }
        lines.extend(self.outputs.iter().map(|o| ("output", output(o))));
        if self.irreproducible {
            lines.push(("note", "same recipe, another result: the stage did not reproduce its output".to_string()));
        }
        lines
    }
}

fn mark(change: &FieldChange) -> char {
    match (&change.old, &change.new) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    }
}

/// `sae.k  16 → 32`, `sae.k  16 (removed)`.
fn field(change: &FieldChange) -> String {
    let value = |v: &serde_json::Value| match v {
        // A digest tells people nothing beyond its first digits.
        serde_json::Value::String(s) if s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit()) => short(s),
        v => cut(&one_line(&v.to_string()), LONGEST_VALUE),
    };
    let path = one_line(&change.path);
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => format!("{path}  {} → {}", value(old), value(new)),
        (Some(old), None) => format!("{path}  {} (removed)", value(old)),
        (None, Some(new)) => format!("{path}  {} (added)", value(new)),
        (None, None) => path,
    }
}

fn output(change: &OutputChange) -> String {
    let name = one_line(&change.name);
    match (&change.old, &change.new) {
        (Some(old), Some(_)) if change.equal() => format!("{name}  {} equal", short(old)),
        (Some(old), Some(new)) => format!("{name}  {} → {} different", short(old), short(new)),
        (Some(old), None) => format!("{name}  {} → none", short(old)),
        (None, Some(new)) => format!("{name}  none → {}", short(new)),
        (None, None) => name,
    }
}

fn short(digest: &str) -> String {
    one_line(digest).chars().take(SHORT).collect()
}
