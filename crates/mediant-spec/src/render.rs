//! Diagnostics as text for a terminal.

use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Label};
use crate::source::{SourceId, Sources, Span};

/// More errors than this are counted, not shown.
const SHOWN: usize = 50;

pub(crate) fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    let mut out = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN) {
        out += &renderer.render(&[group(diagnostic, sources)]);
        out += "\n\n";
    }
    match diagnostics.len() {
        0 | 1 => {}
        count if count > SHOWN => out += &format!("{count} errors, the first {SHOWN} shown\n\n"),
        count => out += &format!("{count} errors\n\n"),
    }
    out.pop();
    out
}

fn group<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Group<'a> {
    let title = Level::ERROR.primary_title(&diagnostic.message).id(diagnostic.code);
    let mut ids: Vec<SourceId> = Vec::new();
    let primary_first = || diagnostic.labels.iter().filter(|label| label.primary).chain(&diagnostic.labels);
    for label in primary_first() {
        if !ids.contains(&label.span.source) {
            ids.push(label.span.source);
        }
    }
    let snippets = ids
        .into_iter()
        .map(|id| snippet(id, diagnostic.labels.iter().filter(move |label| label.span.source == id), sources));
    let help = diagnostic.help.iter().map(|help| Level::HELP.message(help));
    Group::with_title(title).elements(snippets).elements(help)
}

/// The part of a source that the labels are in. Only these lines are handed on, since the renderer looks at all it gets.
fn snippet<'a>(
    id: SourceId,
    labels: impl Iterator<Item = &'a Label> + Clone,
    sources: &'a Sources,
) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    let text = sources.text(id);
    let ranges = labels.clone().map(|label| first_line(text, label.span));
    let start = ranges.clone().map(|range| range.start).min().unwrap_or(0);
    let end = ranges.clone().map(|range| range.end).max().unwrap_or(0);
    let start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[end..].find('\n').map_or(text.len(), |newline| end + newline);
    let annotations = labels.zip(ranges).map(|(label, range)| {
        let kind = if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
        let text = (!label.text.is_empty()).then_some(label.text.as_str());
        kind.span(range.start - start..range.end - start).label(text)
    });
    Snippet::source(&text[start..end])
        .path(sources.name(id))
        .line_start(1 + text[..start].matches('\n').count())
        .annotations(annotations)
}

/// The span cut at the end of its first line: a mapping of forty lines is pointed at where it begins.
fn first_line(text: &str, span: Span) -> Range<usize> {
    let clamp = |offset: u32| text.floor_char_boundary(offset as usize);
    let (start, end) = (clamp(span.start), clamp(span.end));
    let covered = &text[start..end.max(start)];
    start..start + covered.find(['\r', '\n']).unwrap_or(covered.len())
}
