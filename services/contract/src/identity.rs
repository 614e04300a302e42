//! The identity of a unit of work. Each identity has exactly one outcome.

use serde::{Deserialize, Serialize};

use crate::names;

/// One attempt at one generation of one input object, or at one range of its items.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Identity {
    /// Bucket that holds the input.
    pub bucket: String,
    /// Name of the input object.
    pub object: String,
    /// Generation of the input object; always positive.
    pub generation: i64,
    /// First item of the range, when it is a range of a pack.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u32>,
    /// 0 for the first attempt; each retry by a person adds 1.
    pub attempt: u32,
}

/// The generation of work whose input is the message itself: no object has it.
pub const INLINE_GENERATION: i64 = 1;

impl Identity {
    /// Whether the input is an object, and not the message itself.
    pub fn has_object(&self) -> bool {
        self.generation != INLINE_GENERATION
    }

    /// Name of the Kubernetes Job: `job-` and 32 hexadecimal digits of a hash over all parts.
    /// 36 characters, below the limit of 52 that leaves room for the suffixes of pods.
    pub fn job_name(&self) -> String {
        let (generation, attempt) = (self.generation.to_string(), self.attempt.to_string());
        let first = self.first.map(|first| first.to_string());
        let mut parts = vec![&*self.bucket, &*self.object, &*generation, &*attempt];
        parts.extend(first.as_deref());
        format!("job-{}", names::hash(&parts, 32))
    }

    /// `GENERATION-ATTEMPT`, or `GENERATION-FIRST-ATTEMPT` for a range: the last part of output and outcome names.
    pub fn run(&self) -> String {
        match self.first {
            None => format!("{}-{}", self.generation, self.attempt),
            Some(first) => format!("{}-{first}-{}", self.generation, self.attempt),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_job_name() {
        let base = Identity { bucket: "b".into(), object: "o".into(), generation: 1, first: None, attempt: 0 };
        let others = [
            Identity { bucket: "c".into(), ..base.clone() },
            Identity { object: "p".into(), ..base.clone() },
            Identity { generation: 2, ..base.clone() },
            Identity { attempt: 1, ..base.clone() },
            Identity { first: Some(0), ..base.clone() },
            Identity { first: Some(1), ..base.clone() },
            Identity { bucket: "bo".into(), object: String::new(), ..base.clone() },
        ];
        let name = base.job_name();
        assert!(name.len() <= 52 && names::is_dns_label(&name));
        assert_eq!(name, base.clone().job_name());
        for other in others {
            assert_ne!(name, other.job_name());
        }
    }
}
