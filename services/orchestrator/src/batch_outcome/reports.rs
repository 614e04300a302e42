//! What the pods of a batch reported of its inputs, put together report by report, so that no more of the logs is held
//! than will be told. Pure.

use std::collections::{HashMap, HashSet};

use contract::batch::{Done, Failed, Report};

use crate::outcome::Standing;

/// A pod that left a report.
#[derive(Debug)]
pub(crate) struct Reporter {
    /// Its name.
    pub(crate) pod: String,
    /// CPU time for each of its inputs, in seconds. What a pod spent is shared evenly, since nobody can tell them apart.
    pub(crate) cpu_seconds: f64,
}

/// What the reports say of each input.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    reporters: Vec<Reporter>,
    /// By input, with the position of the reporter.
    done: HashMap<u32, (usize, Done)>,
    failed: HashMap<u32, (usize, Failed)>,
}

impl Reports {
    /// Takes in one more: what is done is done, what can never work has failed, and else the last failure counts. A log
    /// is kept only where the outcome is yet to be written: not of `settled` inputs, and not of what may be tried again.
    pub(crate) fn add(&mut self, report: Report, standing: Standing, settled: &HashSet<u32>) {
        let reporter = self.reporters.len();
        let inputs = (report.done.len() + report.failed.len()).max(1);
        self.reporters.push(Reporter { pod: report.pod, cpu_seconds: report.cpu_seconds / inputs as f64 });
        for done in report.done {
            self.failed.remove(&done.input);
            self.done.insert(done.input, (reporter, done));
        }
        for mut failed in report.failed {
            let rank = |failed: &Failed| (failed.permanent, failed.finished);
            let counts = self.failed.get(&failed.input).is_none_or(|(_, known)| rank(known) < rank(&failed));
            if !counts || self.done.contains_key(&failed.input) {
                continue;
            }
            let is_told = failed.permanent || matches!(standing, Standing::Ended(_));
            if !is_told || settled.contains(&failed.input) {
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

    /// Whether it is known for good how an input ended.
    pub(crate) fn is_known(&self, input: u32) -> bool {
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

    /// The inputs whose logs are held after these reports.
    fn logs(reports: &[Report], standing: Standing, settled: &[u32]) -> Vec<u32> {
        let settled = settled.iter().copied().collect();
        let mut all = Reports::default();
        for one in reports {
            all.add(one.clone(), standing, &settled);
        }
        (0..10).filter(|input| all.failed(*input).is_some_and(|(_, failed)| failed.log_tail.is_some())).collect()
    }

    #[test]
    fn only_the_logs_that_will_be_told_are_held() {
        let mut reports = [
            report(vec![failed(1, true, "malformed-input", 10), failed(2, false, "x", 10), failed(3, false, "x", 10)]),
            report(vec![failed(2, false, "x", 20), failed(4, true, "malformed-input", 20)]),
        ];
        reports[1].done = vec![Done { input: 3, started: jiff::Timestamp::UNIX_EPOCH, finished: jiff::Timestamp::MAX }];
        assert_eq!(logs(&reports, Standing::Running, &[]), [1, 4], "what may be tried again has no outcome yet");
        assert_eq!(logs(&reports, Standing::Running, &[1]), [4], "its outcome is written");
        let ended = Standing::Ended(Phase::Failed);
        assert_eq!(logs(&reports, ended, &[1]), [2, 4], "and 3 was done in the end");
        reports.reverse();
        assert_eq!(logs(&reports, ended, &[1]), [2, 4], "in whatever order");
    }
}
