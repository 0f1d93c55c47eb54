mod adder;
mod circuits;
mod docs;
mod evaluation;
mod experiments;
mod formats;
mod gangs;
#[path = "../../../mediant-report/tests/suite/html.rs"]
mod html;
mod hub;
#[path = "../../../mediant-hub/tests/server/mod.rs"]
mod hub_server;
mod interventions;
mod keys;
mod model;
mod project;
mod removal;
mod report;
mod runs;
mod shipped;
mod staleness;
mod standings;
mod synth;
mod transcoders;
mod variables;
mod wrong;
