//! Text on a terminal: width, colour, wrapping, and no control characters from data.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Where text goes: how wide it is (`None`: not a terminal, nothing is cut) and whether it shows colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terminal {
    /// Columns available; `None` when piped.
    pub width: Option<usize>,
    /// Whether escape sequences for colour and weight are written.
    pub color: bool,
}

impl Terminal {
    /// A pipe or file: unlimited width, no colour.
    pub const PLAIN: Self = Self { width: None, color: false };

    /// `text` in `paint`, where colour is shown.
    pub fn paint(self, paint: Paint, text: &str) -> String {
        if self.color && !text.is_empty() {
            format!("\u{1b}[{}m{text}\u{1b}[0m", paint.code())
        } else {
            text.to_string()
        }
    }
}

/// The few looks used: none carries meaning alone, since a pipe has none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Headings.
    Bold,
    /// Less important text.
    Dim,
    /// Good, added.
    Green,
    /// To be done, changed.
    Yellow,
    /// Failed, removed.
    Red,
    /// Running.
    Cyan,
}

impl Paint {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Red => "31",
            Self::Cyan => "36",
        }
    }
}

/// Columns that `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` with control characters escaped (`\n`, `\u{1b}`), so that data can neither break a line nor steer the terminal.
pub(crate) fn one_line(text: &str) -> String {
    // Bidirectional overrides reorder what follows them on screen.
    let hidden = |c: char| {
        c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    if !text.contains(hidden) {
        return text.to_string();
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hidden(c) {
            out.extend(c.escape_debug());
        } else {
            out.push(c);
        }
    }
    out
}

/// `text` in at most `limit` columns, ending in `…` when cut.
pub(crate) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_string();
    }
    let mut out = String::new();
    let mut used = 0;
    for c in text.chars() {
        let w = c.width().unwrap_or(0);
        if used + w + 1 > limit {
            break;
        }
        used += w;
        out.push(c);
    }
    if limit > 0 {
        out.push('…');
    }
    out
}

/// `text` followed by spaces up to `columns`.
pub(crate) fn pad_right(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(width(text))))
}

/// `text` preceded by spaces up to `columns`.
pub(crate) fn pad_left(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(width(text))))
}

/// Paragraphs of `text` filled to `columns` and indented. Lines that start with white space, a fence or a table bar stay as
/// they are, and so does everything between fences: formulas and code keep their shape.
pub(crate) fn wrap(text: &str, columns: Option<usize>, indent: usize) -> String {
    let room = columns.map_or(usize::MAX, |c| c.saturating_sub(indent).max(20));
    let margin = " ".repeat(indent);
    let mut out = String::new();
    let mut line = String::new();
    let mut fenced = false;
    let flush = |line: &mut String, out: &mut String| {
        if !line.is_empty() {
            out.push_str(&margin);
            out.push_str(line);
            out.push('\n');
            line.clear();
        }
    };
    for source in text.trim_end().lines() {
        let fence = source.trim_start().starts_with("```");
        let item = source.starts_with("- ") || source.starts_with("* ");
        if fence || fenced || source.starts_with([' ', '|', '#']) {
            flush(&mut line, &mut out);
            out.push_str(format!("{margin}{source}").trim_end());
            out.push('\n');
            fenced ^= fence;
            continue;
        }
        if source.trim().is_empty() {
            flush(&mut line, &mut out);
            out.push('\n');
            continue;
        }
        if item {
            flush(&mut line, &mut out);
        }
        for word in source.split_whitespace() {
            if !line.is_empty() && width(&line) + 1 + width(word) > room {
                flush(&mut line, &mut out);
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    flush(&mut line, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_not_obeyed() {
        assert_eq!(one_line("a\nb\u{1b}[2J\u{202e}"), "a\\nb\\u{1b}[2J\\u{202e}");
        assert_eq!(one_line("Zoë 漢"), "Zoë 漢");
    }

    #[test]
    fn cutting_counts_columns_not_bytes() {
        assert_eq!(cut("漢字漢字", 5), "漢字…");
        assert_eq!(cut("plain", 5), "plain");
        assert_eq!(cut("plain", 0), "");
    }

    #[test]
    fn wrapping_fills_paragraphs_and_keeps_code() {
        let text = "one two three four five six\nseven\n\n    x = 1   # stays\n- an item\n- another";
        assert_eq!(
            wrap(text, Some(24), 2),
            "  one two three four\n  five six seven\n\n      x = 1   # stays\n  - an item\n  - another\n"
        );
    }
}
