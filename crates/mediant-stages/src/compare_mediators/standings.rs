//! The searches for sets of items, one beside the other.

use mediant_artifact::{ArtifactWriter, MetricRow};
use mediant_engine::StageError;
use mediant_methods::bootstrap::Estimate;
use mediant_methods::mediators::Selection;
use mediant_methods::standings::{Origin, Standing, bits};

use super::columns::{estimates, labelled, told, write};

/// A standing beside its controls.
pub(super) struct Controlled<'s, 'e> {
    pub(super) standing: &'s Standing<'e>,
    pub(super) shuffled: &'s Standing<'e>,
    pub(super) random_model: &'s Standing<'e>,
}

/// A number of a standing: its name, unit, value and interval.
struct Number {
    name: &'static str,
    unit: &'static str,
    estimate: Option<Estimate>,
    n: u64,
}

impl Controlled<'_, '_> {
    /// Everything that is said of it, always the same names.
    fn numbers(&self) -> Vec<Number> {
        let Standing { entry, nothing, coverage, sufficient, minimality, without_error, random, .. } = self.standing;
        let number = |name, unit, estimate, n| Number { name, unit, estimate, n };
        let examples = entry.origin.examples;
        let of = |name, estimate| number(name, "1", estimate, examples);
        let plain = |value: f64| Some(Estimate { value, interval: None });
        let areas = |standing: &Standing<'_>, selection, which: fn(Estimate, Estimate) -> Estimate| {
            standing.areas_of(selection).map(|areas| which(areas.cpr, areas.cmd))
        };
        let (cpr, cmd): (fn(_, _) -> _, fn(_, _) -> _) = (|cpr, _| cpr, |_, cmd| cmd);
        let items = entry.items as u64;
        let draws = random.as_ref().map_or(0, |random| random.draws as u64);
        let random_cpr = random.as_ref().map(|random| Estimate { value: random.mean, interval: random.interval });
        vec![
            of("cpr_signed", areas(self.standing, Selection::Signed, cpr)),
            of("cpr_absolute", areas(self.standing, Selection::Absolute, cpr)),
            of("cmd_signed", areas(self.standing, Selection::Signed, cmd)),
            of("cmd_absolute", areas(self.standing, Selection::Absolute, cmd)),
            of("coverage", Some(*coverage)),
            of("nothing", Some(*nothing)),
            number("items", "items", plain(items as f64), items),
            number("size_at_0.9", "items", sufficient.and_then(|set| plain(f64::from(set.kept))), examples),
            number("bits_at_0.9", "bits", sufficient.and_then(|set| plain(bits(set))), examples),
            number("weighted_edges_at_0.9", "edges", sufficient.and_then(|set| plain(set.weighted_edges?)), examples),
            number(
                "minimality",
                "1",
                minimality.and_then(|(share, ..)| plain(share)),
                minimality.map_or(0, |(_, tried, _)| tried as u64),
            ),
            number(
                "minimality_items",
                "items",
                minimality.and_then(|(_, _, set)| plain(f64::from(set.kept))),
                examples,
            ),
            of("without_error", *without_error),
            number(
                "off_target_loss",
                "nats",
                entry.off_target.map(|off| off.rise),
                entry.off_target.map_or(0, |off| off.n),
            ),
            number("off_target_items", "items", entry.off_target.and_then(|off| plain(off.items)), items),
            number("random_cpr", "1", random_cpr, draws),
            number("above_random", "1", random.as_ref().and_then(|random| plain(random.below)), draws),
            of("shuffled_cpr", areas(self.shuffled, Selection::Signed, cpr)),
            of("random_model_cpr", areas(self.random_model, Selection::Signed, cpr)),
            number("search_passes", "passes", plain(entry.origin.search_passes), examples),
            number("evaluation_passes", "passes", plain(entry.origin.passes), examples),
        ]
    }

    /// The same as metrics.
    pub(super) fn metrics(&self) -> Vec<MetricRow> {
        let tags = told(&self.standing.entry.origin);
        let row = |number: Number| {
            let Estimate { value, interval } = number.estimate?;
            let (low, high) = interval.unzip();
            let (name, unit, n, tags) = (number.name.to_owned(), number.unit.to_owned(), number.n, tags.clone());
            Some(MetricRow { name, value, unit, n, low, high, tags, ..MetricRow::default() })
        };
        self.numbers().into_iter().filter_map(row).collect()
    }
}

/// Numbers without an interval.
const PLAIN: [&str; 10] = [
    "items",
    "size_at_0.9",
    "bits_at_0.9",
    "weighted_edges_at_0.9",
    "minimality",
    "minimality_items",
    "off_target_items",
    "above_random",
    "search_passes",
    "evaluation_passes",
];

/// One row a search, the best first.
pub(super) fn write_standings(
    artifact: ArtifactWriter,
    axes: &[&str],
    controlled: &[Controlled<'_, '_>],
) -> Result<(), StageError> {
    let cpr =
        |row: &Controlled<'_, '_>| row.standing.areas_of(Selection::Signed).map_or(f64::NAN, |areas| areas.cpr.value);
    let mut order: Vec<&Controlled<'_, '_>> = controlled.iter().collect();
    order.sort_by(|a, b| cpr(b).total_cmp(&cpr(a)));
    let rows: Vec<&Origin> = order.iter().map(|row| &row.standing.entry.origin).collect();
    let mut columns = labelled(axes, &rows);
    let values: Vec<Vec<Number>> = order.iter().map(|row| row.numbers()).collect();
    let names = values.first().map_or(Vec::new(), |row| row.iter().map(|number| number.name).collect());
    for (place, name) in names.into_iter().enumerate() {
        let values: Vec<Option<Estimate>> = values.iter().map(|row| row[place].estimate).collect();
        columns.extend(estimates(name, &values, !PLAIN.contains(&name)));
    }
    write(
        artifact,
        columns,
        "Standings",
        "Searches for mediators by the area under their faithfulness, the best first.",
    )
}
