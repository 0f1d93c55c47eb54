//! Text inside XML and HTML.

use crate::text::one_line;

/// Text for an element or a quoted attribute; characters that XML cannot hold become spaces.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// As [`escape`], with characters that would reorder or break the text on the page shown by their codes.
pub(crate) fn visible(text: &str) -> String {
    escape(&one_line(text))
}

/// A length in pixels. A tenth of a pixel is finer than anyone sees, and keeps the text short.
pub(crate) fn px(x: f64) -> String {
    let text = format!("{x:.1}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

/// A `data:` address that holds this text; of `kind`, such as `text/csv`.
pub(crate) fn data_address(kind: &str, text: &str) -> String {
    let mut out = format!("data:{kind};charset=utf-8,");
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.!~*();/?:@=+$,".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_text_leaves_its_place() {
        assert_eq!(visible("</script>\"\u{202e}\n&"), "&lt;/script&gt;&quot;\\u{202e}\\n&amp;");
        assert_eq!(data_address("text/csv", "a,b\n\"<%é"), "data:text/csv;charset=utf-8,a,b%0A%22%3C%25%C3%A9");
    }
}
