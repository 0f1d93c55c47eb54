//! Files of the Hugging Face hub, as `hf://owner/name[@revision][/path]` names them.
//!
//! A revision is resolved to a commit of 40 digits, and files are fetched by commit into the cache that Python's
//! `huggingface_hub` uses, in its layout: `models--owner--name/{blobs,refs,snapshots}`. What is there already, from either
//! side, is not fetched again, and needs no network. A file that is fetched is there once its digest is what the hub says.

mod address;
mod cache;
mod download;
mod error;
mod hub;
mod settings;

pub use address::Address;
pub use error::{Error, Result};
pub use hub::{Fetched, Hub, Progress, Wanted};
pub use settings::Settings;
