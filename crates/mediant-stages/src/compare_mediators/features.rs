//! The searches for features of activations, one beside the other.

use mediant_artifact::{ArtifactWriter, MetricRow};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::standings::{Exchange, Origin};

use super::columns::{counts, estimates, labelled, numbers, texts, told, write};

/// Features at a site beside their controls.
pub(super) struct ControlledFeatures<'s, 'e> {
    pub(super) exchange: &'s Exchange<'e>,
    /// None of a search without labels.
    pub(super) shuffled: Option<&'s Exchange<'e>>,
    pub(super) random_model: &'s Exchange<'e>,
}

impl ControlledFeatures<'_, '_> {
    /// The accuracies as metrics.
    pub(super) fn metrics(&self) -> Vec<MetricRow> {
        let Self { exchange, shuffled, random_model } = self;
        let mut tags = told(&exchange.of.origin);
        tags.insert("site".to_owned(), exchange.site().to_owned());
        tags.insert("size".to_owned(), exchange.size().to_string());
        let named = [
            ("iia", Some(exchange.iia)),
            ("full_vector_iia", exchange.full_vector),
            ("random_iia", exchange.random),
            ("shuffled_iia", shuffled.map(|shuffled| shuffled.iia)),
            ("random_model_iia", Some(random_model.iia)),
        ];
        let row = |(name, estimate): (&str, Option<Estimate>)| {
            let Estimate { value, interval } = estimate?;
            let (low, high) = interval.unzip();
            let (name, unit, n, tags) = (name.to_owned(), "1".to_owned(), exchange.n, tags.clone());
            Some(MetricRow { name, value, unit, n, low, high, tags, ..MetricRow::default() })
        };
        named.into_iter().filter_map(row).collect()
    }
}

/// One row a site and size of a search, the best of each site first.
pub(super) fn write_features(
    artifact: ArtifactWriter,
    axes: &[&str],
    controlled: &[ControlledFeatures<'_, '_>],
) -> Result<(), StageError> {
    let mut rows: Vec<&ControlledFeatures<'_, '_>> = controlled.iter().collect();
    rows.sort_by(|a, b| {
        let sites = a.exchange.site().cmp(b.exchange.site());
        sites.then(b.exchange.iia.value.total_cmp(&a.exchange.iia.value))
    });
    let origins: Vec<&Origin> = rows.iter().map(|row| &row.exchange.of.origin).collect();
    let mut columns = labelled(axes, &origins);
    let of = |get: fn(&ControlledFeatures<'_, '_>) -> Option<Estimate>| -> Vec<Option<Estimate>> {
        rows.iter().map(|row| get(row)).collect()
    };
    columns.extend([
        texts("site", rows.iter().map(|row| Some(row.exchange.site()))),
        counts("size", rows.iter().map(|row| u64::from(row.exchange.size()))),
        numbers("size_bits", rows.iter().map(|row| Some(row.exchange.bits()))),
    ]);
    columns.extend(estimates("iia", &of(|row| Some(row.exchange.iia)), true));
    columns.extend(estimates("full_vector_iia", &of(|row| row.exchange.full_vector), true));
    columns.extend(estimates("random_iia", &of(|row| row.exchange.random), true));
    columns.extend(estimates("shuffled_iia", &of(|row| row.shuffled.map(|shuffled| shuffled.iia)), true));
    columns.extend(estimates("random_model_iia", &of(|row| Some(row.random_model.iia)), true));
    columns.extend(estimates("random_model_full_vector_iia", &of(|row| row.random_model.full_vector), true));
    columns.extend([
        numbers("iia_before", rows.iter().map(|row| Some(row.exchange.before))),
        counts("prompts", rows.iter().map(|row| row.exchange.n)),
        numbers("search_passes", origins.iter().map(|origin| Some(origin.search_passes))),
        numbers("evaluation_passes", origins.iter().map(|origin| Some(origin.passes))),
    ]);
    let description = "Interchange-intervention accuracy of features of activations, by site, the best first; iia_before: how many prompts answer so anyway.";
    write(artifact, columns, "Features", description)
}
