mod docs;
mod keys;
mod model;
mod project;
mod runs;
mod staleness;
mod wrong;
