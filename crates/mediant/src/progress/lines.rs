//! Lines: for people when output is piped, and JSON for machines.

use std::io::{BufWriter, Stdout, Write};

use mediant_engine::{Event, EventSink};

/// One line for each thing worth telling, on standard error.
pub(crate) struct PlainLines {
    quiet: bool,
}

impl PlainLines {
    pub(crate) fn new() -> Self {
        Self { quiet: false }
    }

    /// Failures alone.
    pub(crate) fn quiet() -> Self {
        Self { quiet: true }
    }
}

impl EventSink for PlainLines {
    fn event(&mut self, event: &Event) {
        if self.quiet && !matches!(event, Event::Failed { .. }) {
            return;
        }
        if let Event::Started { stage, .. } = event {
            anstream::eprintln!("start     {stage}");
        } else if let Some(line) = super::line(event) {
            anstream::eprintln!("{line}");
        }
    }
}

/// Every event as a JSON object, a line each, on standard output.
pub(crate) struct JsonLines {
    out: BufWriter<Stdout>,
}

impl JsonLines {
    pub(crate) fn new() -> Self {
        Self { out: BufWriter::new(std::io::stdout()) }
    }
}

impl EventSink for JsonLines {
    fn event(&mut self, event: &Event) {
        // A reader that has gone away must not stop the run.
        let _ = serde_json::to_writer(&mut self.out, event);
        let _ = self.out.write_all(b"\n");
        // Hits come by the thousand and at once; everything else is news.
        if !matches!(event, Event::Cached { .. }) {
            let _ = self.out.flush();
        }
    }
}
