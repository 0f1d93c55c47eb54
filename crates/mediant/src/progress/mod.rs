//! What a run shows: bars on a terminal, plain lines when piped, JSON lines for machines, a summary at the end.

mod bars;
mod fetching;
mod lines;
mod summary;

pub(crate) use bars::Bars;
pub(crate) use fetching::fetching;
pub(crate) use lines::{JsonLines, PlainLines};
pub(crate) use summary::summary;

use mediant_engine::Event;

/// The line that an event deserves, if any.
fn line(event: &Event) -> Option<String> {
    Some(match event {
        Event::Waiting { stage } => format!("waiting   {stage}: another run is doing it"),
        Event::Note { stage, text } => format!("          {stage}: {text}"),
        Event::Finished { stage, seconds, peak_memory, .. } => {
            format!("done      {stage}  {}  {}", time(*seconds), bytes(*peak_memory))
        }
        Event::NotCached { stage, reason } => format!("warning   {stage}: {reason}"),
        Event::Divergent { stage, aside, .. } => {
            format!(
                "warning   {stage}: computed again, it gave another result; the first one stays, the new one is recorded in {aside}"
            )
        }
        Event::Damaged { stage, reason } => format!("damaged   {stage}: {reason}; set aside and computed again"),
        Event::Retry { stage, attempt, error } => format!("retry     {stage}: attempt {attempt} failed: {error}"),
        Event::Failed { stage, error, log } => {
            let log = if std::path::Path::new(log).exists() {
                format!("\n          its output: {log}")
            } else {
                String::new()
            };
            format!("failed    {stage}: {error}{log}")
        }
        Event::Skipped { stage, because } => format!("skipped   {stage}: {because}"),
        Event::Interrupted => {
            "stopping: waiting for running stages to save their state (Ctrl-C again to stop at once)".to_owned()
        }
        Event::RunStarted { .. }
        | Event::Cached { .. }
        | Event::Started { .. }
        | Event::Progress { .. }
        | Event::RunFinished { .. } => return None,
    })
}

/// The terminal that standard output goes to, if it does.
pub(crate) fn terminal() -> mediant_report::Terminal {
    use std::io::IsTerminal;
    let stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return mediant_report::Terminal::PLAIN;
    }
    let width =
        rustix::termios::tcgetwinsize(&stdout).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
    let color = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
    mediant_report::Terminal { width, color }
}

/// `0.4 s`, `12 s`, `3 min 20 s`.
pub(crate) fn time(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 60.0 => format!("{s:.0} s"),
        s if s < 3600.0 => format!("{} min {:02} s", s as u64 / 60, s as u64 % 60),
        s => format!("{} h {:02} min", s as u64 / 3600, s as u64 / 60 % 60),
    }
}

/// `812 B`, `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 || value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit])
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}
