//! Plans in files: what was agreed to, so that exactly that is carried out later, or nothing.
//!
//! A file is one JSON document: `schema` (1), `environment`, `project`, `made` (when), `adopt` and `prune` (how the
//! plan was made), and `changes`, each with `kind`, `name`, `action` and its `differences` (`field`, `live`,
//! `wanted`). It holds settings of resources and members of policies, and no credential: a plan never has one.

use std::path::Path;

use anyhow::Context as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    failure::Failure,
    plan::{Change, Options, Plan},
};

/// Version of the form of these files.
const SCHEMA: u32 = 1;

/// A plan in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// Version of this form.
    pub schema: u32,
    /// Environment.
    pub environment: String,
    /// Project.
    pub project: String,
    /// When it was made.
    pub made: Timestamp,
    /// Foreign resources of our names are taken over.
    pub adopt: bool,
    /// What is ours and not in the environment file is deleted.
    pub prune: bool,
    /// What is done, and to what.
    pub changes: Vec<Value>,
}

impl Saved {
    /// A plan as it is written down.
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn new(plan: &Plan, options: Options) -> anyhow::Result<Self> {
        let Options { adopt, prune } = options;
        let Plan { environment, project, .. } = plan.clone();
        let changes = steps(plan)?.into_iter().map(|step| step.value).collect();
        Ok(Self { schema: SCHEMA, environment, project, made: Timestamp::now(), adopt, prune, changes })
    }

    /// How the plan was made.
    pub fn options(&self) -> Options {
        Options { adopt: self.adopt, prune: self.prune }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is no plan of this version.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read the plan {}", path.display()))?;
        let bad = |why: String| Failure {
            code: "plan-file",
            what: "the file is not a plan that can be carried out".to_owned(),
            on: path.display().to_string(),
            why,
            next: "make a new one: cargo xtask plan --out FILE".to_owned(),
        };
        let value: Value = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if value["schema"] != SCHEMA {
            return Err(bad(format!("its schema is {}, this program knows {SCHEMA}", value["schema"])).into());
        }
        serde_json::from_value(value).map_err(|error| bad(error.to_string()).into())
    }

    /// Writes a file, all of it or none.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let context = || format!("write the plan {}", path.display());
        let text = serde_json::to_string_pretty(self).with_context(context)? + "\n";
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        std::fs::write(&draft, text).and_then(|()| std::fs::rename(&draft, path)).with_context(context)
    }

    /// Whether a plan that was made now is this one.
    ///
    /// # Errors
    /// When it is of another environment, or the cloud or the environment file changed; says exactly what.
    pub fn check(&self, now: &Plan) -> anyhow::Result<()> {
        if (&self.environment, &self.project) != (&now.environment, &now.project) {
            return Err(
                moved(now, format!("it is for environment {} in project {}", self.environment, self.project)).into()
            );
        }
        let now_steps = steps(now)?;
        let mut lines = Vec::new();
        for step in &now_steps {
            let before = self.changes.iter().find(|value| key(value) == step.key);
            match before {
                None => lines.push(format!("{}: not in the plan, and now {}", step.name, brief(&step.value))),
                Some(before) if *before != step.value => {
                    lines.push(format!(
                        "{}: planned was {}, now it is {}",
                        step.name,
                        brief(before),
                        brief(&step.value)
                    ));
                }
                Some(_) => {}
            }
        }
        for value in &self.changes {
            if !now_steps.iter().any(|step| step.key == key(value)) {
                let (kind, name) = key(value);
                lines.push(format!("{kind} {name}: planned was {}, now nothing is to be done", brief(value)));
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(moved(now, lines.join("\n")).into()) }
    }
}

/// Whether `now` has only what `agreed` has: others may have done a part of it meanwhile.
///
/// # Errors
/// When it has more; says exactly what.
pub fn beyond(agreed: &Plan, now: &Plan) -> anyhow::Result<()> {
    let agreed = steps(agreed)?;
    let mut lines = Vec::new();
    for step in steps(now)? {
        let line = match agreed.iter().find(|before| before.key == step.key) {
            None => format!("{}: not in the plan, and now {}", step.name, brief(&step.value)),
            Some(before) if is_part(&before.value, &step.value) => continue,
            Some(before) => {
                format!("{}: planned was {}, now it is {}", step.name, brief(&before.value), brief(&step.value))
            }
        };
        lines.push(line);
    }
    if lines.is_empty() { Ok(()) } else { Err(moved(now, lines.join("\n")).into()) }
}

/// Whether what is to be done now is what was agreed to, or less.
fn is_part(agreed: &Value, now: &Value) -> bool {
    let (before, after) = (agreed["action"].as_str(), now["action"].as_str());
    // Somebody else began to make it.
    if before == Some("create") && after == Some("await") {
        return true;
    }
    let differences = |value: &Value| value["differences"].as_array().cloned().unwrap_or_default();
    let agreed = differences(agreed);
    before == after && differences(now).iter().all(|difference| agreed.contains(difference))
}

struct Step {
    key: (String, String),
    name: String,
    value: Value,
}

/// What a plan does, and what is in its way.
fn steps(plan: &Plan) -> anyhow::Result<Vec<Step>> {
    let changes = plan.changes.iter().filter(|change| change.action.is_change() || change.action.is_blocker());
    changes.map(step).collect()
}

fn step(change: &Change) -> anyhow::Result<Step> {
    let value = serde_json::to_value(change).context("encode the plan")?;
    Ok(Step { key: key(&value), name: change.id.to_string(), value })
}

fn key(value: &Value) -> (String, String) {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    (text("kind"), text("name"))
}

fn brief(value: &Value) -> String {
    let action = value["action"].as_str().unwrap_or("unknown");
    let part = |difference: &Value| {
        let side = |key: &str| match &difference[key] {
            Value::Null => "nothing".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        format!("{} {} -> {}", difference["field"].as_str().unwrap_or_default(), side("live"), side("wanted"))
    };
    let parts: Vec<String> = value["differences"].as_array().into_iter().flatten().map(part).collect();
    match parts.is_empty() || action == "create" {
        true => format!("`{action}`"),
        false => format!("`{action}` ({})", parts.join(", ")),
    }
}

fn moved(now: &Plan, why: String) -> Failure {
    Failure {
        code: "plan-moved",
        what: "the project or the environment file changed since the plan was made; nothing was changed".to_owned(),
        on: format!("environment {} in project {}", now.environment, now.project),
        why,
        next: "see a new plan: cargo xtask plan".to_owned(),
    }
}
