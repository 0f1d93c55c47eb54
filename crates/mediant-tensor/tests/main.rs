//! Kernels against oracles, optimisers against PyTorch, bits against threads.
#![allow(clippy::unwrap_used)]

#[path = "suite/bits.rs"]
mod bits;
#[path = "suite/gradients.rs"]
mod gradients;
#[path = "suite/optim.rs"]
mod optim;
#[path = "suite/plain_backward.rs"]
mod plain_backward;
