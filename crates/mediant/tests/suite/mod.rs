mod circuits;
mod docs;
mod evaluation;
mod formats;
mod gangs;
mod hub;
#[path = "../../../mediant-hub/tests/server.rs"]
mod hub_server;
mod interventions;
mod keys;
mod model;
mod project;
mod runs;
mod shipped;
mod staleness;
mod synth;
mod wrong;
