//! `mediant`: the command line. One file a subcommand under `commands/`.

mod cli;
mod commands;
mod exit;
mod progress;
mod reported;
mod results;

use std::process::ExitCode;

use clap::Parser;

// burn allocates a fresh buffer for every result; mimalloc halves what that costs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // A reader that has seen enough (`mediant stages | head`) is no error of ours.
    restore_broken_pipe();
    huge_pages(false);
    let cli = cli::Cli::parse();
    exit::finish(commands::dispatch(cli))
}

/// Huge pages suit the tensors of a worker; of a plan's small objects they make twice the memory. The allocator asks for them, workers
/// inherit what the run had, and this has the last word. Where the system knows no such switch, nothing is lost but memory.
pub(crate) fn huge_pages(wanted: bool) {
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(!wanted);
    #[cfg(not(target_os = "linux"))]
    let _ = wanted;
}

/// Rust ignores SIGPIPE and turns it into a panic of `println!`; a command-line program should just end.
fn restore_broken_pipe() {
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload().downcast_ref::<String>().cloned().unwrap_or_default();
        if text.contains("Broken pipe") {
            std::process::exit(0);
        }
        use std::io::Write;
        let _ = writeln!(
            std::io::stderr(),
            "internal error: {info}\nThis is a defect of mediant; nothing finished is lost. Please report it with the pipeline."
        );
    }));
}
