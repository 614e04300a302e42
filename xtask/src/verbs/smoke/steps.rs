//! The commands of a smoke test: every command of the command line once, or the reason why not.

/// A command, and the exit codes with which it ends when all is well. `FILE` stands for an input, `LONG` for one that
/// takes minutes, `BAD` for one that cannot be priced, `OUT` for a folder and `BUCKET` for the bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) line: &'static str,
    pub(super) codes: &'static [u8],
}

impl Step {
    /// The command without its arguments: a verb, or two where the first has verbs of its own.
    pub(super) fn verb(&self) -> String {
        let words: Vec<&str> = self.line.split(' ').collect();
        let parts = if ["session", "dead-letters"].contains(&words[0]) { 2 } else { 1 };
        words[..parts].join(" ")
    }
}

const fn step(line: &'static str) -> Step {
    Step { line, codes: &[0] }
}

/// What sets the environment up; when one of them fails, the rest has no sense.
pub(super) const SET_UP: &[Step] =
    &[Step { line: "plan", codes: &[2] }, step("provision --yes"), step("build"), step("deploy --yes"), step("doctor")];

/// A Job that succeeds, one that fails, one that is cancelled, and every other command.
pub(super) const WORK: &[Step] = &[
    step("status"),
    step("submit --session good --job one --wait --timeout 20m FILE"),
    Step { line: "submit --session bad --job two --wait --timeout 20m BAD", codes: &[1] },
    step("session pause --yes cancelled"),
    step("submit --session cancelled --job three LONG"),
    step("session cancel --yes cancelled"),
    step("session resume --yes cancelled"),
    Step { line: "session wait --timeout 20m cancelled", codes: &[1] },
    step("session list"),
    step("jobs"),
    step("job two"),
    step("logs --orchestrator"),
    step("results --session good"),
    step("session results good"),
    step("session cost good"),
    step("verify good"),
    step("session failures bad"),
    step("dead-letters list"),
    step("dead-letters replay --yes --session bad --file FILE two"),
    step("session wait --timeout 20m bad"),
    Step { line: "submit --session worse --job four --wait --timeout 20m BAD", codes: &[1] },
    Step { line: "session retry --yes --wait worse", codes: &[1] },
    step("dead-letters discard --yes --session worse four"),
    step("session close --yes good"),
    step("explain timeout"),
    step("completions bash"),
    step("render --out OUT --orchestrator-image r/o@sha256:DIGEST --engine-image r/e@sha256:DIGEST"),
    step("add-business --yes smoke2"),
    step("remove-business --yes --identities --delete-data --yes-delete BUCKET smoke2"),
    step("clean --yes --all"),
];

/// What leaves nothing behind, whatever was done before.
pub(super) const TEARDOWN: Step =
    step("teardown --yes --cancel --wait 600 --identities --delete-data --yes-delete BUCKET");

/// Commands that are not run, with the reason.
pub(super) const NOT_RUN: &[(&str, &str)] = &[
    ("demo", "uses this machine only"),
    ("test", "uses this machine only"),
    ("check", "uses this machine only"),
    ("bench", "uses this machine only"),
    ("local up", "uses this machine only"),
    ("local down", "uses this machine only"),
    ("local status", "uses this machine only"),
    ("local env", "uses this machine only"),
    ("rotate-keys", "the environment has no keys and no pool (auth = \"workload-identity\")"),
    ("open", "runs until it is stopped"),
    ("smoke", "is this command"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Cli;

    /// Commands without commands of their own, by their full names.
    fn leaves(command: &clap::Command, prefix: &str) -> Vec<String> {
        let visible = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let leaves = visible.flat_map(|sub| {
            let name = format!("{prefix}{}", sub.get_name());
            if sub.has_subcommands() { leaves(sub, &format!("{name} ")) } else { vec![name] }
        });
        leaves.collect()
    }

    #[test]
    fn every_command_is_run_or_has_a_reason() {
        let steps = || [TEARDOWN].into_iter().chain(SET_UP.iter().chain(WORK).copied());
        let run: BTreeSet<String> = steps().map(|step| step.verb()).collect();
        let known: BTreeSet<String> = leaves(&Cli::command(), "").into_iter().collect();
        let reasons: BTreeSet<String> = NOT_RUN.iter().map(|(verb, _)| (*verb).to_owned()).collect();
        assert!(run.is_disjoint(&reasons));
        assert_eq!(run.union(&reasons).cloned().collect::<BTreeSet<_>>(), known);
        for step in steps() {
            let words = ["cargo xtask"].into_iter().chain(step.line.split(' '));
            assert!(Cli::command().try_get_matches_from(words).is_ok(), "{}", step.line);
        }
    }
}
