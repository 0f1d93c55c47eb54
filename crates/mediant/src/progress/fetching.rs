//! Files that come from the hub while a pipeline is planned: a bar on a terminal, else a line a file.

use std::io::IsTerminal;
use std::sync::Mutex;

use indicatif::{ProgressBar, ProgressStyle};

/// The file that comes, and its bar.
static CURRENT: Mutex<Option<(String, ProgressBar)>> = Mutex::new(None);

/// Shows how far a file is.
pub(crate) fn fetching(address: &str, done: u64, total: Option<u64>) {
    let Ok(mut current) = CURRENT.lock() else { return };
    if current.as_ref().is_none_or(|(shown, _)| shown != address) {
        if let Some((_, bar)) = current.take() {
            bar.finish_and_clear();
        }
        if !std::io::stderr().is_terminal() {
            let size = total.map(|total| format!("  {}", super::bytes(total))).unwrap_or_default();
            anstream::eprintln!("fetching  {address}{size}");
        }
        // Hidden where there is no terminal.
        let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
        let template = "{spinner} {prefix}  {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left";
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        *current = Some((address.to_owned(), bar.with_style(style).with_prefix(address.to_owned())));
    }
    if let Some((_, bar)) = &*current {
        bar.set_position(done);
        if total.is_some_and(|total| done >= total) {
            bar.finish_and_clear();
        }
    }
}
