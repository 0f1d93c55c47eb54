//! What the provenance says of the machine, and what the kernel says of the process.

use std::sync::OnceLock;

use serde_json::{Value, json};

/// Host, processor and the vector instructions that decide which kernels run.
pub(super) fn machine() -> &'static Value {
    static MACHINE: OnceLock<Value> = OnceLock::new();
    MACHINE.get_or_init(|| {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        json!({ "host": name, "cpu": cpu_model(), "cpu_features": cpu_features(), "cpus": std::thread::available_parallelism().map_or(1, usize::from) })
    })
}

fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find(|line| line.starts_with("model name"));
    line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned()).unwrap_or_default()
}

/// The widest of the instruction sets that gemm chooses its kernels by: results differ in the last bits between them.
pub(crate) fn cpu_features() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx512f") {
            return "avx512f";
        }
        if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
            return "avx2+fma";
        }
    }
    std::env::consts::ARCH
}

/// Forgets the peak of resident memory, so that the next action has a peak of its own.
pub(super) fn reset_peak_memory() {
    // Not permitted everywhere; the peak is then that of the process so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// (peak, present) resident memory in bytes; zeros where the kernel does not tell.
pub(super) fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    (field("VmHWM:").unwrap_or(0) * 1024, field("VmRSS:").unwrap_or(0) * 1024)
}
