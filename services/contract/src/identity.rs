//! The identity of a unit of work. Each identity has exactly one outcome and at most one result.

use serde::{Deserialize, Serialize};

use crate::names;

/// One attempt at one generation of one input object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Identity {
    /// Bucket that holds the input.
    pub bucket: String,
    /// Name of the input object.
    pub object: String,
    /// Generation of the input object; always positive.
    pub generation: i64,
    /// 0 for the first attempt; each retry by a person adds 1.
    pub attempt: u32,
}

impl Identity {
    /// Name of the Kubernetes Job: `job-` and 32 hexadecimal digits of a hash over all four parts.
    /// 36 characters, below the limit of 52 that leaves room for the suffixes of pods.
    pub fn job_name(&self) -> String {
        let hash =
            names::hash(&[&self.bucket, &self.object, &self.generation.to_string(), &self.attempt.to_string()], 32);
        format!("job-{hash}")
    }

    /// `GENERATION-ATTEMPT`, the last part of output and outcome names.
    pub fn run(&self) -> String {
        format!("{}-{}", self.generation, self.attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_changes_the_job_name() {
        let base = Identity { bucket: "b".into(), object: "o".into(), generation: 1, attempt: 0 };
        let others = [
            Identity { bucket: "c".into(), ..base.clone() },
            Identity { object: "p".into(), ..base.clone() },
            Identity { generation: 2, ..base.clone() },
            Identity { attempt: 1, ..base.clone() },
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
