//! Training: data order, one step on a device, the loop around it.

mod cpu;
mod curve;
mod device;
mod either;
mod feed;
mod learner;
mod order;
mod source;
mod start;
mod steering;
mod threshold;
mod trainer;
mod variance;

pub use cpu::{Buffers, CpuLearner, Pass, pass};
pub use device::{DeviceLearner, not_on_devices};
pub use either::EitherLearner;
pub use feed::{Batch, Feed};
pub use learner::{Learner, Losses, Now, Outcome, Samples};
pub use source::{Activations, Cached, InMemory};
pub use start::Estimates;
pub use trainer::{Places, Trained, Trainer, TrainingFacts};
