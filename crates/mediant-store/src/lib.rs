//! The store of Mediant: bytes only, it knows nothing of stages or Parquet.
//!
//! ```text
//! .mediant/                 CACHEDIR.TAG; every folder has a VERSION of its own
//!   objects/ab/cdef…/       manifest and tables; immutable, read-only, named by the digest of the manifest
//!   actions/ab/cdef….json   recipe key → what went in and what came out
//!   contents/ab/cdef….json  content key → what came out
//!   checkpoints/            the state of interrupted stages
//!   runs/<ulid>/            the plan, events, logs of one run
//!   pins/ lockfiles/        what gc keeps besides the last runs
//!   index/                  the stat index
//!   quarantine/             what was found damaged
//!   locks/ tmp/
//! ```
//!
//! **What a crash leaves.** A result exists when its action record does. Files are written under tmp/, synced, renamed into
//! objects/; then the record is written, synced, renamed. So whatever the moment, a record's objects are whole, and anything
//! else is garbage that nobody refers to: gc takes it, or an equal result finds it in place, byte for byte, and uses it.
//!
//! **What is trusted.** Nothing that is read back: records carry a digest of their text, objects are compared with their
//! manifests ([`Store::check`]), and what does not fit is moved to quarantine/ and computed again.

mod action;
mod check;
mod checkpoint;
mod error;
mod files;
mod gc;
mod gc_plan;
mod id;
mod lock;
mod object;
mod record;
mod roots;
mod run;
mod scratch;
mod stat;
mod stat_file;
mod store;
mod tree;

pub use action::{ActionRecord, ContentRecord, OutputRecord, Outputs, Written};
pub use check::ObjectState;
pub use checkpoint::Checkpoints;
pub use error::{Error, Result};
pub use gc::GcReport;
pub use gc_plan::{GcObject, GcOptions, GcPlan};
pub use id::Id;
pub use lock::{ActionLock, ExclusiveLock, SharedLock};
pub use object::FileEntry;
pub use record::RawJson;
pub use roots::Pin;
pub use run::{Run, RunInfo};
pub use scratch::Staging;
pub use stat::{FileDigest, StatIndex};
pub use store::Store;
pub use tree::TreeDigest;
