mod keys;
mod project;
mod staleness;
