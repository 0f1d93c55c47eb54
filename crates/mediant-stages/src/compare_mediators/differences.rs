//! Every two searches, and every search over seeds.

use mediant_artifact::ArtifactWriter;
use mediant_engine::StageError;
use mediant_methods::standings::{Contender, Difference, Origin};

use super::columns::{Column, counts, labelled, numbers, texts, write};

/// One row two searches.
pub(super) fn write_differences(
    artifact: ArtifactWriter,
    contenders: &[Contender<'_>],
    differences: &[Difference],
) -> Result<(), StageError> {
    let first = |difference: &Difference| &contenders[difference.a];
    let name = |place: fn(&Difference) -> usize| -> Vec<String> {
        differences.iter().map(|difference| name_of(&contenders[place(difference)])).collect()
    };
    let (a, b) = (name(|difference| difference.a), name(|difference| difference.b));
    let columns = vec![
        texts("measure", differences.iter().map(|difference| Some(first(difference).measure))),
        texts("site", differences.iter().map(|difference| site_of(first(difference)))),
        texts("a", a.iter().map(|name| Some(name.as_str()))),
        texts("b", b.iter().map(|name| Some(name.as_str()))),
        numbers("difference", differences.iter().map(|difference| Some(difference.value))),
        numbers("low", differences.iter().map(|difference| difference.interval.map(|(low, _)| low))),
        numbers("high", differences.iter().map(|difference| difference.interval.map(|(_, high)| high))),
        numbers("p", differences.iter().map(|difference| Some(difference.p))),
        numbers("p_holm", differences.iter().map(|difference| Some(difference.p_holm))),
    ];
    let description = "The number of a less that of b on one model, the same prompts and, of iia, at one site: paired bootstrap, two-sided p, and p after Holm's correction over all rows.";
    write(artifact, columns, "Differences", description)
}

/// `heads by eap, live`, or `directions by das, 4`.
fn name_of(contender: &Contender<'_>) -> String {
    let name = contender.origin.search.name();
    match contender.size {
        Some(size) => format!("{name}, {size}"),
        None if contender.outside == "live" => format!("{name}, live"),
        None => name,
    }
}

fn site_of<'c>(contender: &'c Contender<'_>) -> Option<&'c str> {
    (!contender.site.is_empty()).then_some(contender.site.as_str())
}

/// One row a search, over the axes of seeds.
pub(super) fn write_spread(
    artifact: ArtifactWriter,
    axes: &[&str],
    seeds: &[String],
    contenders: &[Contender<'_>],
) -> Result<(), StageError> {
    let plain: Vec<&str> = axes.iter().copied().filter(|axis| !seeds.iter().any(|seed| seed == axis)).collect();
    // What two have in common that differ in their seeds alone.
    let common = |contender: &Contender<'_>| {
        let mut search = contender.origin.search.clone();
        search.labels.retain(|axis, _| !seeds.contains(axis));
        (search, contender.site.clone(), contender.size)
    };
    let mut groups: Vec<Vec<&Contender<'_>>> = Vec::new();
    for contender in contenders {
        match groups.iter_mut().find(|members| common(members[0]) == common(contender)) {
            Some(members) => members.push(contender),
            None => groups.push(vec![contender]),
        }
    }
    let values: Vec<Vec<f64>> =
        groups.iter().map(|members| members.iter().map(|contender| contender.value).collect()).collect();
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let deviation = |values: &[f64]| {
        let (mean, freedom) = (mean(values), values.len() as f64 - 1.0);
        (freedom > 0.0).then(|| (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / freedom).sqrt())
    };
    let firsts: Vec<&Contender<'_>> = groups.iter().map(|members| members[0]).collect();
    let origins: Vec<&Origin> = firsts.iter().map(|contender| contender.origin).collect();
    let mut columns: Vec<Column> = labelled(&plain, &origins);
    columns.extend([
        texts("measure", firsts.iter().map(|contender| Some(contender.measure))),
        texts("site", firsts.iter().map(|contender| site_of(contender))),
        numbers("size", firsts.iter().map(|contender| contender.size.map(f64::from))),
        counts("runs", values.iter().map(|values| values.len() as u64)),
        numbers("mean", values.iter().map(|values| Some(mean(values)))),
        numbers("sd", values.iter().map(|values| deviation(values))),
        numbers("min", values.iter().map(|values| values.iter().copied().reduce(f64::min))),
        numbers("max", values.iter().map(|values| values.iter().copied().reduce(f64::max))),
    ]);
    let description = "CPR and interchange-intervention accuracy of each search over the axes of seeds; the deviation is that of a sample.";
    write(artifact, columns, "Spread over seeds", description)
}
