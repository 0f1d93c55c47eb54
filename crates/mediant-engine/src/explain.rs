//! Why an instance runs again: the pre-image of its key now beside that of the last run, field by field, followed
//! through the inputs to the stages where the change began.

use std::collections::BTreeMap;

use mediant_spec::node_at;
use serde::Serialize;
use serde_json::Value;

use crate::error::Result;
use crate::plan::{Judge, Plan, Status, id};
use crate::record::RunPlan;

/// What is to be said of an instance.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The instance.
    pub stage: String,
    /// `cached`, `will run` or `depends on X`, with the reason.
    pub status: String,
    /// The run that it is compared with, if there was one.
    pub compared_with: Option<String>,
    /// What differs from that run, in the instance itself.
    pub changes: Vec<Change>,
    /// What differs in the stages that it depends on.
    pub upstream: Vec<Upstream>,
}

/// A stage further up that has changed.
#[derive(Debug, Clone, Serialize)]
pub struct Upstream {
    /// The instance.
    pub stage: String,
    /// What differs in it.
    pub changes: Vec<Change>,
}

/// One difference between two pre-images.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// `config.sae.k`, `sources.source`, `inputs.tokens`, `version`, `stage`.
    pub field: String,
    /// The value in the last run; null if there was none.
    pub before: Value,
    /// The value now; null if there is none.
    pub now: Value,
    /// Whether the field is one that was there before.
    pub was_there: bool,
    /// Whether the field is one that is there now.
    pub is_there: bool,
    /// Where the pipeline says so, `line 12: ${params.k}`.
    pub place: Option<String>,
}

/// Explains an instance of a plan, against the last run of the same pipeline file.
///
/// # Errors
/// If the store cannot be read.
pub fn explain(plan: &Plan, judge: &mut Judge<'_>, index: usize) -> Result<Explanation> {
    let mut status = String::new();
    for earlier in 0..=index {
        if plan.wanted[earlier] {
            let decided = judge.decide(earlier)?;
            if earlier == index {
                status = describe(plan, &decided);
            }
        }
    }
    let instance = &plan.instances[index];
    let mut explanation = Explanation {
        stage: instance.label.clone(),
        status,
        compared_with: None,
        changes: Vec::new(),
        upstream: Vec::new(),
    };
    let Some((run, last)) = last_run(plan)? else { return Ok(explanation) };
    explanation.compared_with = Some(run);
    let mut comparison = Comparison { plan, last: &last, seen: BTreeMap::new() };
    explanation.changes = comparison.changes(index)?;
    let mut open = changed_producers(plan, &last, index);
    let mut seen = vec![false; plan.instances.len()];
    while let Some(producer) = open.pop() {
        if std::mem::replace(&mut seen[producer], true) {
            continue;
        }
        let changes: Vec<Change> =
            comparison.changes(producer)?.into_iter().filter(|change| !change.field.starts_with("inputs.")).collect();
        if !changes.is_empty() {
            explanation.upstream.push(Upstream { stage: plan.instances[producer].label.clone(), changes });
        }
        open.extend(changed_producers(plan, &last, producer));
    }
    explanation.upstream.sort_by_key(|upstream| plan.find(&upstream.stage));
    Ok(explanation)
}

/// A status in words.
pub fn describe(plan: &Plan, status: &Status) -> String {
    match status {
        Status::Cached(_, crate::Hit::Recipe) => "cached".to_owned(),
        Status::Cached(_, _) => "cached: another recipe led to the same config and inputs".to_owned(),
        Status::Run(why) => format!("will run: {why}"),
        Status::Depends(producer) => format!(
            "depends on {}, which will run; if that gives the same result as before, this is cached",
            plan.instances[*producer].label
        ),
    }
}

/// The plan of the newest run of this pipeline file.
fn last_run(plan: &Plan) -> Result<Option<(String, RunPlan)>> {
    let file = std::path::absolute(&plan.file).map_err(crate::Error::io(&plan.file))?;
    let file = file.display().to_string();
    for run in plan.store.runs()? {
        if run.pipeline.as_deref() == Some(file.as_str())
            && let Ok(last) = RunPlan::read(&run)
        {
            return Ok(Some((run.id, last)));
        }
    }
    Ok(None)
}

/// Producers of an instance's inputs whose recipes differ from those of the last run.
fn changed_producers(plan: &Plan, last: &RunPlan, index: usize) -> Vec<usize> {
    let members = plan.instances[index].inputs.iter().flat_map(|port| &port.members);
    let mut producers: Vec<usize> = members
        .map(|member| member.producer)
        .filter(|producer| {
            let producer = &plan.instances[*producer];
            last.instances.get(&producer.label) != Some(&producer.recipe)
        })
        .collect();
    producers.sort_unstable();
    producers.dedup();
    producers
}

struct Comparison<'a> {
    plan: &'a Plan,
    last: &'a RunPlan,
    seen: BTreeMap<usize, Vec<Change>>,
}

impl Comparison<'_> {
    /// What differs between an instance's pre-image and that of the last run; nothing if there is none to compare with.
    fn changes(&mut self, index: usize) -> Result<Vec<Change>> {
        if let Some(changes) = self.seen.get(&index) {
            return Ok(changes.clone());
        }
        let instance = &self.plan.instances[index];
        let mut changes = Vec::new();
        match self.last.instances.get(&instance.label) {
            None => changes.push(Change {
                field: "stage".into(),
                before: Value::Null,
                now: instance.uses.into(),
                was_there: false,
                is_there: true,
                place: None,
            }),
            Some(recipe) if *recipe == instance.recipe => {}
            Some(recipe) => {
                let before: Option<Value> = match self.plan.store.read_action(id(*recipe))? {
                    Some(record) => Some(record.preimage.parse()?),
                    // It failed, or was never finished: nothing was recorded.
                    None => None,
                };
                if let Some(before) = before {
                    self.compare(&before, &self.plan.preimage(index).to_json(), &mut changes);
                    for change in &mut changes {
                        change.place = self.place(index, &change.field);
                    }
                }
            }
        }
        self.seen.insert(index, changes.clone());
        Ok(changes)
    }

    fn compare(&self, before: &Value, now: &Value, changes: &mut Vec<Change>) {
        for field in ["stage", "version"] {
            if before[field] != now[field] {
                changes.push(change(field, Some(&before[field]), Some(&now[field])));
            }
        }
        differences("config", before.get("config"), now.get("config"), changes);
        self.sources(&before["sources"], &now["sources"], changes);
        self.inputs(&before["inputs"], &now["inputs"], changes);
    }

    /// A source is one thing, whatever its record holds.
    fn sources(&self, before: &Value, now: &Value, changes: &mut Vec<Change>) {
        for name in names(before, now) {
            let (old, new) = (before.get(name), now.get(name));
            if old != new {
                changes.push(change(&format!("sources.{name}"), old, new));
            }
        }
    }

    /// Inputs are compared as lists of what they name: a producer is shown by its label rather than by its key.
    fn inputs(&self, before: &Value, now: &Value, changes: &mut Vec<Change>) {
        let old_labels: BTreeMap<String, &str> =
            self.last.instances.iter().map(|(label, recipe)| (recipe.to_string(), label.as_str())).collect();
        let new_labels: BTreeMap<String, &str> =
            self.plan.instances.iter().map(|instance| (instance.recipe.to_string(), instance.label.as_str())).collect();
        for port in names(before, now) {
            let (old, new) = (before.get(port), now.get(port));
            if old != new {
                changes.push(change(
                    &format!("inputs.{port}"),
                    old.map(|old| named(old, &old_labels)).as_ref(),
                    new.map(|new| named(new, &new_labels)).as_ref(),
                ));
            }
        }
    }

    /// Where the pipeline gives a field of the config.
    fn place(&self, index: usize, field: &str) -> Option<String> {
        let path = field.strip_prefix("config.").or_else(|| field.strip_prefix("sources."))?;
        let decl = &self.plan.pipeline.stages[self.plan.instances[index].decl];
        let node = node_at(&decl.with, path);
        if std::ptr::eq(node, &*decl.with) {
            return None;
        }
        let sources = &self.plan.pipeline.sources;
        let (line, _) = sources.line_column(node.span);
        let text: String = sources.slice(node.span).chars().take(60).collect();
        Some(format!("{} line {line}: {}", sources.name(node.span.source), text.replace('\n', " ")))
    }
}

/// `tokens.train`, `sae[seed=0]`, for each member of a port.
fn named(members: &Value, labels: &BTreeMap<String, &str>) -> Value {
    let name = |member: &Value| {
        let recipe = member["recipe"].as_str().unwrap_or_default();
        let label = labels.get(recipe).copied().unwrap_or("another stage");
        let output = member["output"].as_str().unwrap_or_default();
        let key = member["key"].as_str().map(|key| format!("[{key}]")).unwrap_or_default();
        let short: String = recipe.chars().take(12).collect();
        Value::from(format!("{label}.{output}{key} (recipe {short})"))
    };
    members.as_array().map(|members| members.iter().map(name).collect()).unwrap_or_default()
}

fn change(field: &str, before: Option<&Value>, now: Option<&Value>) -> Change {
    Change {
        field: field.to_owned(),
        before: before.cloned().unwrap_or_default(),
        now: now.cloned().unwrap_or_default(),
        was_there: before.is_some(),
        is_there: now.is_some(),
        place: None,
    }
}

/// The names in either of two JSON objects, sorted.
fn names<'v>(before: &'v Value, now: &'v Value) -> Vec<&'v String> {
    let mut names: Vec<&String> =
        [before, now].into_iter().filter_map(Value::as_object).flat_map(serde_json::Map::keys).collect();
    names.sort();
    names.dedup();
    names
}

/// Differences of two JSON trees, by path.
fn differences(path: &str, before: Option<&Value>, now: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, now) {
        (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
            for name in names(old, new) {
                differences(&format!("{path}.{name}"), old.get(name), new.get(name), changes);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                differences(&format!("{path}[{index}]"), Some(old), Some(new), changes);
            }
        }
        // 1 and 1.0 are different values here as they are in keys.
        (old, new) if old == new => {}
        (old, new) => changes.push(change(path, old, new)),
    }
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |value: &Value| match value {
            Value::Object(map) if map.contains_key("digest") => map["digest"]
                .as_str()
                .map_or_else(|| value.to_string(), |digest| format!("content {}", &digest[..12.min(digest.len())])),
            Value::Array(items) if items.iter().all(Value::is_string) => {
                items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        match (self.was_there, self.is_there) {
            (false, _) if self.field == "stage" => f.write_str("the stage is new in this pipeline")?,
            (false, _) => write!(f, "{} is new: {}", self.field, shown(&self.now))?,
            (true, false) => write!(f, "{} is gone; it was {}", self.field, shown(&self.before))?,
            (true, true) => write!(f, "{}: {} -> {}", self.field, shown(&self.before), shown(&self.now))?,
        }
        match &self.place {
            Some(place) => write!(f, "  ({place})"),
            None => Ok(()),
        }
    }
}
