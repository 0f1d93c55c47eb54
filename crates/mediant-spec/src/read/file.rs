//! The bytes of a file as text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};
use crate::yaml::MAX_BYTES;

/// The text of a file. It is added to `sources` only to show where it is not UTF-8.
pub(super) fn read(path: &Path, sources: &mut Sources) -> Result<String, Diagnostic> {
    let cannot = |error: std::io::Error| Diagnostic::new("file", format!("cannot read `{}`: {error}", path.display()));
    let file = File::open(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    check_size(path, metadata.len())?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // A pipe has no length, and a file may grow meanwhile.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(cannot)?;
    check_size(path, bytes.len() as u64)?;
    String::from_utf8(bytes)
        .map_err(|error| not_utf8(path, error.as_bytes(), error.utf8_error().valid_up_to(), sources))
}

pub(super) fn check_size(path: &Path, bytes: u64) -> Result<(), Diagnostic> {
    if bytes <= MAX_BYTES {
        return Ok(());
    }
    let message = format!("`{}` is larger than {} MiB, the limit for a pipeline", path.display(), MAX_BYTES >> 20);
    Err(Diagnostic::new("file", message))
}

fn not_utf8(path: &Path, bytes: &[u8], at: usize, sources: &mut Sources) -> Diagnostic {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Diagnostic::new("file", format!("`{}` is UTF-16", path.display())).help("save it as UTF-8");
    }
    let source = sources.add(path.display().to_string(), String::from_utf8_lossy(bytes));
    let start = u32::try_from(at).unwrap_or(u32::MAX);
    let span = Span { source, start, end: start.saturating_add(3) }; // U+FFFD, which stands there now
    Diagnostic::new("file", format!("`{}` is not UTF-8 text", path.display()))
        .at(span, format!("the byte 0x{:02x}", bytes[at]))
}
