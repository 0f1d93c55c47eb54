//! What people see, as snapshots.
#![allow(clippy::unwrap_used, reason = "tests")]

mod suite {
    mod artifacts;
    mod dag;
    mod diff;
    mod html;
    mod query;
    mod report;
    mod show;
    mod stages;
    mod table;
}
