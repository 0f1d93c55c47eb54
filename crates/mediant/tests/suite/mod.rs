mod docs;
mod keys;
mod model;
mod project;
mod runs;
mod shipped;
mod staleness;
mod wrong;
