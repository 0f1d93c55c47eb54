//! Bars on a terminal: one a running action, with rate and time left.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use mediant_engine::{Event, EventSink};

/// Draws on standard error.
pub(crate) struct Bars {
    screen: MultiProgress,
    running: HashMap<String, ProgressBar>,
}

impl Bars {
    pub(crate) fn new() -> Self {
        Self { screen: MultiProgress::new(), running: HashMap::new() }
    }

    fn finish(&mut self, stage: &str) {
        if let Some(bar) = self.running.remove(stage) {
            bar.finish_and_clear();
        }
    }
}

/// Templates are constants, so they always parse.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl EventSink for Bars {
    fn event(&mut self, event: &Event) {
        match event {
            Event::Started { stage, .. } => {
                let bar = self.screen.add(
                    ProgressBar::new_spinner()
                        .with_style(style("{spinner} {prefix}  {elapsed}"))
                        .with_prefix(stage.clone()),
                );
                bar.enable_steady_tick(Duration::from_millis(120));
                self.running.insert(stage.clone(), bar);
            }
            Event::Progress { stage, done, total, unit } => {
                if let Some(bar) = self.running.get(stage) {
                    if bar.length() != Some(*total) {
                        bar.set_length(*total);
                        bar.set_style(style(&format!("{{spinner}} {{prefix}}  {{wide_bar}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left")));
                    }
                    bar.set_position(*done);
                }
            }
            Event::Finished { stage, .. }
            | Event::Failed { stage, .. }
            | Event::Cached { stage, .. }
            | Event::Retry { stage, .. } => self.finish(stage),
            _ => {}
        }
        if let Some(line) = super::line(event) {
            // Above the bars; lost only if the terminal itself is gone.
            let _ = self.screen.println(line);
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        for bar in self.running.values() {
            bar.finish_and_clear();
        }
    }
}
