//! Why Jobs of a session failed, grouped by cause. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use contract::{Outcome, outcome::State};

/// Jobs named as examples.
const EXAMPLES: usize = 5;
/// Longest line shown, in characters.
const LINE_MAX: usize = 300;

/// Jobs that ended for the same cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// How they ended.
    pub state: State,
    /// Reason code.
    pub code: String,
    /// How many.
    pub count: usize,
    /// Reason message of the first of them.
    pub message: String,
    /// The line of the first one's log that differs from other causes of the same code, or its last line.
    pub line: String,
    /// Ids of the first few.
    pub examples: Vec<String>,
}

/// Groups the outcomes, and the items of packs, that are not successes, the largest group first. Jobs have the same cause when their reason code
/// is the same, and so is the first line that differs between the logs of Jobs with that code, apart from what differs
/// from run to run (numbers, addresses, ids, quoted names).
pub fn causes(outcomes: &[Outcome]) -> Vec<Cause> {
    let unsuccessful = outcomes.iter().filter(|outcome| outcome.state != State::Succeeded);
    let outcomes: Vec<Outcome> = unsuccessful.flat_map(Outcome::by_item).collect();
    let mut by_code: BTreeMap<(State, &str), Vec<&Outcome>> = BTreeMap::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.state != State::Succeeded) {
        by_code.entry((outcome.state, &outcome.reason.code)).or_default().push(outcome);
    }
    let mut causes = Vec::new();
    for ((state, code), outcomes) in by_code {
        let logs: Vec<Vec<String>> = outcomes.iter().map(|outcome| lines(outcome).map(normalised).collect()).collect();
        let same = in_common(&logs);
        let mut groups: BTreeMap<Option<&String>, Vec<&Outcome>> = BTreeMap::new();
        for (outcome, log) in outcomes.iter().zip(&logs) {
            groups.entry(log.get(same)).or_default().push(outcome);
        }
        for group in groups.into_values() {
            let Some(first) = group.first() else { continue };
            let line = lines(first).nth(same).or_else(|| lines(first).last()).unwrap_or_default();
            causes.push(Cause {
                state,
                code: code.to_owned(),
                count: group.len(),
                message: first.reason.message.clone(),
                line: line.chars().take(LINE_MAX).collect(),
                examples: group.iter().take(EXAMPLES).map(|outcome| name(outcome)).collect(),
            });
        }
    }
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    causes
}

/// The lines of a Job: its reason, then its log.
fn lines(outcome: &Outcome) -> impl Iterator<Item = &str> {
    let log = outcome.log_tail.as_deref().unwrap_or_default();
    std::iter::once(outcome.reason.message.as_str()).chain(log.lines()).map(str::trim).filter(|line| !line.is_empty())
}

/// Number of lines at the start that are the same in all.
fn in_common(all: &[Vec<String>]) -> usize {
    let Some((first, rest)) = all.split_first() else { return 0 };
    let same = |at: usize| rest.iter().all(|other| other.get(at) == first.get(at));
    (0..first.len()).take_while(|at| same(*at)).count()
}

fn name(outcome: &Outcome) -> String {
    match (&outcome.work, &outcome.message_id) {
        (Some(work), _) => work.job.clone(),
        (None, Some(id)) => id.clone(),
        (None, None) => "?".to_owned(),
    }
}

/// A line without the parts that differ from run to run: words with a digit become `#`, quoted text becomes `"#"`.
fn normalised(line: &str) -> String {
    let mut text = String::new();
    let mut word = String::new();
    let mut quote = None;
    let flush = |word: &mut String, text: &mut String| {
        if word.chars().any(|c| c.is_ascii_digit()) {
            text.push('#');
        } else {
            text.push_str(word);
        }
        word.clear();
    };
    for c in line.chars() {
        match quote {
            Some(end) if c == end => {
                quote = None;
                text.push_str("#\"");
            }
            Some(_) => {}
            None if c == '"' || c == '`' => {
                flush(&mut word, &mut text);
                text.push('"');
                quote = Some(c);
            }
            None if c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/') => word.push(c),
            None => {
                flush(&mut word, &mut text);
                text.push(c);
            }
        }
    }
    flush(&mut word, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, message: &str, log: &str) -> Outcome {
        let mut outcome = Outcome::new("bu1", State::Failed, code, message);
        outcome.log_tail = Some(log.to_owned());
        outcome.message_id = Some(format!("{code}-{}", log.len()));
        outcome
    }

    #[test]
    fn numbers_ids_and_quoted_names_do_not_count() {
        let same = [
            "2026-11-22T14:33:55Z [pid 17] cannot open \"a.json\" at 0x7ffe12, row 3",
            "2026-11-23T04:03:05Z [pid 4242] cannot open \"deep/b.json\" at 0x6b01, row 17",
        ];
        assert_eq!(normalised(same[0]), normalised(same[1]));
        assert_ne!(normalised("strike is negative"), normalised("strike is missing"));
        assert_eq!(normalised("an open \"quote"), "an open \"");
    }

    #[test]
    fn causes_differ_in_the_first_line_that_differs() {
        let outcomes = [
            failed("retries-exhausted", "exit code 1", "starting 1\nreading\nno licence\n"),
            failed("retries-exhausted", "exit code 1", "starting 2\nreading\nno licence\nbye"),
            failed("retries-exhausted", "exit code 1", "starting 3\nreading\nsegmentation fault\n"),
            failed("retries-exhausted", "exit code 1", "starting 44\nreading\nno licence\n"),
            failed("timeout", "ran longer than its timeout", ""),
            Outcome::new("bu1", State::Succeeded, "completed", ""),
        ];
        let found = causes(&outcomes);
        let short: Vec<_> = found.iter().map(|cause| (cause.code.as_str(), cause.count, cause.line.as_str())).collect();
        assert_eq!(
            short,
            [
                ("retries-exhausted", 3, "no licence"),
                ("retries-exhausted", 1, "segmentation fault"),
                ("timeout", 1, "ran longer than its timeout"),
            ]
        );
        assert_eq!(found[0].examples.len(), 3);
        assert!(causes(&[]).is_empty());
    }

    #[test]
    fn many_of_one_cause_are_one_group_with_a_few_examples() {
        let outcomes: Vec<_> = (0..100).map(|n| failed("x", "m", &format!("step {n}\nfailed with {n}"))).collect();
        let found = causes(&outcomes);
        assert_eq!((found.len(), found[0].count, found[0].examples.len()), (1, 100, EXAMPLES));
        assert_eq!(found[0].line, "failed with 0");
    }
}
