//! What stages check of the directions that are connected with them, and how they read them.

use mediant_artifact::{Artifact, DirectionRow, DirectionsMeta, HookFact, ModelFacts, read_directions, subspaces};
use mediant_engine::{InputFacts, Problems, StageError};
use mediant_lm::Positions;
use mediant_methods::subspace::{Basis, Site};

/// Whether the model has the hook points of the directions, and the prompts their positions.
pub(crate) fn check_subspaces(inputs: &InputFacts) -> Result<(), Problems> {
    let Some(subspaces) = inputs.directions("directions").and_then(|directions| directions.subspaces.as_ref()) else {
        return Ok(());
    };
    let mut problems = Problems::none();
    for subspace in subspaces {
        let name = &subspace.hook.name;
        if let Some(model) = inputs.model("model") {
            let found = model.hook(name).map(HookFact::width);
            if found != Some(subspace.hook.width()) {
                let width = subspace.hook.width();
                let message = match found {
                    Some(found) => {
                        format!("they have vectors of {width} at `{name}`, the model has {found} numbers there")
                    }
                    None => format!("they are at `{name}`, which the model does not have"),
                };
                problems.push(Problems::input("directions", message));
                break;
            }
        }
        let span = serde_json::from_str::<Positions>(&subspace.positions).ok();
        let span = span.as_ref().and_then(|positions| positions.span().map(str::to_owned));
        let known = inputs.prompts("prompts").and_then(|prompts| prompts.spans.as_ref());
        if let (Some(span), Some(known)) = (span, known)
            && !known.contains(&span)
        {
            let message = format!("they are at the span `{span}`, which the prompts do not have");
            problems.push(Problems::input("directions", message));
            break;
        }
    }
    problems.finish()
}

/// A subspace of an artifact.
pub(crate) struct Subspace {
    pub(crate) site: Site,
    pub(crate) basis: Basis,
    /// Whether its first r vectors are the subspace of rank r.
    pub(crate) nested: bool,
}

/// The subspaces of an artifact; there is one at least.
pub(crate) fn all_subspaces(artifact: &Artifact) -> Result<(DirectionsMeta, Vec<Subspace>), StageError> {
    let (meta, rows) = read_directions(artifact)?;
    let of_rows = |rows: &[DirectionRow]| {
        let DirectionRow { hook, positions, .. } = &rows[0];
        let positions: Positions = serde_json::from_str(positions)
            .map_err(|_| StageError::new(format!("the directions are at {positions}, which are no positions")))?;
        let site = Site { point: hook.parse()?, positions };
        Ok(Subspace { site, basis: Basis::of_rows(rows)?, nested: meta.nested })
    };
    let found = subspaces(&rows).map(of_rows).collect::<Result<Vec<_>, StageError>>()?;
    if found.is_empty() {
        return Err(StageError::new("there are no directions"));
    }
    Ok((meta, found))
}

/// The same, all at hook points that the model has.
pub(crate) fn read_subspaces(
    artifact: &Artifact,
    model: &ModelFacts,
) -> Result<(DirectionsMeta, Vec<Subspace>), StageError> {
    let (meta, found) = all_subspaces(artifact)?;
    for Subspace { site, basis, .. } in &found {
        let (hook, own) = (site.point.to_string(), basis.width());
        if model.hook(&hook).map(HookFact::width) != Some(own) {
            return Err(StageError::new(format!(
                "the model has no `{hook}` of {own} numbers, where the directions are"
            )));
        }
    }
    Ok((meta, found))
}
