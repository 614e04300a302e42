//! Merges the reports of a batch's pods, one after another, and keeps only the logs that an outcome will have. Pure.

use std::collections::{HashMap, HashSet};

use contract::batch::{Done, Failed, Report};

use crate::outcome::JobState;

/// A pod that left a report.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// Its name.
    pub(crate) pod: String,
    /// CPU time of each of its inputs, in seconds: an even share of the pod's, since it cannot be measured for each.
    pub(crate) cpu_seconds: f64,
}

/// The merged reports.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    reporters: Vec<Reporter>,
    /// By input, with the position of the reporter.
    done: HashMap<u32, (usize, Done)>,
    failed: HashMap<u32, (usize, Failed)>,
}

impl Reports {
    /// Adds a report: success counts most, then a permanent failure, then the last failure. A log is kept only if an
    /// outcome is still to be written: not for `settled` inputs, and not for those that may be retried.
    pub(crate) fn add(&mut self, report: Report, state: JobState, settled: &HashSet<u32>) {
        let reporter = self.reporters.len();
        let inputs = (report.done.len() + report.failed.len()).max(1);
        self.reporters.push(Reporter { pod: report.pod, cpu_seconds: report.cpu_seconds / inputs as f64 });
        for done in report.done {
            self.failed.remove(&done.input);
            self.done.insert(done.input, (reporter, done));
        }
        for mut failed in report.failed {
            let rank = |failed: &Failed| (failed.permanent, failed.finished);
            let counts = self.failed.get(&failed.input).is_none_or(|(_, other)| rank(other) < rank(&failed));
            if !counts || self.done.contains_key(&failed.input) {
                continue;
            }
            let has_outcome = failed.permanent || matches!(state, JobState::Ended(_));
            if !has_outcome || settled.contains(&failed.input) {
                failed.log_tail = None;
            }
            self.failed.insert(failed.input, (reporter, failed));
        }
    }

    /// The report that an input is done.
    pub(crate) fn done(&self, input: u32) -> Option<(&Reporter, Done)> {
        let (reporter, done) = self.done.get(&input)?;
        Some((self.reporters.get(*reporter)?, *done))
    }

    /// The failure of an input that counts.
    pub(crate) fn failed(&self, input: u32) -> Option<(&Reporter, &Failed)> {
        let (reporter, failed) = self.failed.get(&input)?;
        Some((self.reporters.get(*reporter)?, failed))
    }

    /// Whether the result of an input is final.
    pub(crate) fn is_final(&self, input: u32) -> bool {
        self.done.contains_key(&input) || self.failed.get(&input).is_some_and(|(_, failed)| failed.permanent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{batch_outcome::tests::failed, watched::Phase};

    fn report(failed: Vec<Failed>) -> Report {
        Report { schema: 1, pod: "p".into(), cpu_seconds: 1.0, done: vec![], failed }
    }

    /// The inputs whose logs are kept after these reports.
    fn logs(reports: &[Report], state: JobState, settled: &[u32]) -> Vec<u32> {
        let settled = settled.iter().copied().collect();
        let mut all = Reports::default();
        for one in reports {
            all.add(one.clone(), state, &settled);
        }
        (0..10).filter(|input| all.failed(*input).is_some_and(|(_, failed)| failed.log_tail.is_some())).collect()
    }

    #[test]
    fn only_the_logs_of_future_outcomes_are_kept() {
        let mut reports = [
            report(vec![failed(1, true, "malformed-input", 10), failed(2, false, "x", 10), failed(3, false, "x", 10)]),
            report(vec![failed(2, false, "x", 20), failed(4, true, "malformed-input", 20)]),
        ];
        reports[1].done = vec![Done {
            input: 3,
            started: jiff::Timestamp::UNIX_EPOCH,
            finished: jiff::Timestamp::MAX,
            row_errors: None,
        }];
        assert_eq!(logs(&reports, JobState::Running, &[]), [1, 4], "an input that may be retried has no outcome yet");
        assert_eq!(logs(&reports, JobState::Running, &[1]), [4], "its outcome is written");
        let ended = JobState::Ended(Phase::Failed);
        assert_eq!(logs(&reports, ended, &[1]), [2, 4], "and 3 was done in the end");
        reports.reverse();
        assert_eq!(logs(&reports, ended, &[1]), [2, 4], "in whatever order");
    }
}
