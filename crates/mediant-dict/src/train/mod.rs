//! Training: data order, one step on a device, the loop around it.

mod cpu;
mod curve;
mod learner;
mod order;
mod source;
mod start;
mod trainer;

pub use cpu::{Buffers, CpuLearner, Pass, pass};
pub use learner::{Learner, Losses, Now, Outcome};
pub use order::Order;
pub use source::{Activations, Cached, InMemory};
pub use trainer::{Trained, Trainer, TrainingFacts};
