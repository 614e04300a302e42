use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use contract::exit;

use super::*;

/// The source files below a folder of the repository, or one file, without their tests.
fn sources(path: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut waiting = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["tests.rs", "properties.rs"].iter().any(|tests| path.ends_with(tests))
        {
            let text = std::fs::read_to_string(&path).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned();
            found.push((path, text));
        }
    }
    assert!(!found.is_empty(), "no source in {path}");
    found
}

/// Codes right after `marks` in the text.
fn codes_after(text: &str, marks: &[&str]) -> Vec<String> {
    let word = |rest: &str| {
        let (word, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
        let is_code = word.starts_with(|c: char| c.is_ascii_lowercase())
            && !word.ends_with('-')
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        is_code.then(|| word.to_owned())
    };
    let after = |mark: &&str| -> Vec<String> {
        text.match_indices(*mark).filter_map(|(at, _)| word(&text[at + mark.len()..])).collect()
    };
    marks.iter().flat_map(after).collect()
}

/// Checks that the table explains the used codes of a kind.
fn check(kind: Kind, used: &BTreeSet<String>, at_least: usize) {
    let known: Vec<&str> = kind.entries().iter().map(|entry| entry.0).collect();
    let missing: Vec<&String> = used.iter().filter(|code| !known.contains(&code.as_str())).collect();
    assert!(missing.is_empty(), "without an entry: {missing:?}");
    assert!(used.len() >= at_least, "{used:?}");
    assert!(kind == Kind::Exit || known.is_sorted_by(|one, other| one < other), "sorted, each code once");
}

#[test]
fn every_error_code_is_explained_once() {
    let mut used = BTreeSet::new();
    for (path, text) in ["services/cli/src", "xtask/src", "infra/provision/src"].map(sources).into_iter().flatten() {
        used.extend(codes_after(&text, &["Failure::new(", "code:", "Finding::bad(", "grants::finding("]));
        if path.ends_with("provision/src/change.rs") {
            used.extend(codes_after(&text, &["=> Some("]));
        }
        if path.ends_with("cli/src/error.rs") {
            used.extend(codes_after(&text, &["(", "Self::new("]));
        }
    }
    used.retain(|code| !["on", "why", "next"].contains(&code.as_str()));
    check(Kind::Error, &used, 20);
}

#[test]
fn every_reason_code_is_explained_once() {
    let mut used = BTreeSet::new();
    let marks = ["Refusal::new(", "Failure::permanent(", "Failure::transient(", "code:", "Self::AlreadyDone =>"];
    for folder in ["services/contract/src", "services/engine/src", "services/kernel/src", "services/orchestrator/src"] {
        for (path, text) in sources(folder) {
            used.extend(codes_after(&text, &marks));
            used.extend(codes_after(&text, &["State::Failed,", "State::Refused,", "State::Cancelled,"]));
            if path.ends_with("orchestrator/src/outcome.rs") {
                used.extend(codes_after(&text, &["(State::Succeeded,", " (", "{ ", "RETRIES_EXHAUSTED: &str ="]));
            }
            used.extend(codes_after(&text, &["UNREADABLE: &str =", "STOPPED: &str ="]));
        }
    }
    for (_, text) in sources("services/inspect/src/cluster/view.rs") {
        used.extend(codes_after(&text, &["reason("]));
    }
    check(Kind::Reason, &used, 40);
}

#[test]
fn every_exit_code_is_explained_once() {
    let exits = [exit::DONE, exit::PERMANENT, exit::TRANSIENT, exit::FAILED, exit::CHANGES_PENDING, exit::USAGE];
    check(Kind::Exit, &exits.map(|code| code.to_string()).into(), 5);
}

/// The table as a page of documentation.
fn page() -> String {
    let mut page = "# Codes\n\nEach code with its cause and what to do.\n`cargo xtask explain CODE` prints the same.\n\
                    A test keeps this page equal to the table in the source; `UPDATE_GOLDEN=1 cargo test -p cli codes` \
                    refreshes it.\n"
        .to_owned();
    for (kind, title, text) in [
        (Kind::Exit, "Exit codes", "Exit codes of `cargo xtask`, `deskgrid`, the services and the containers of Jobs."),
        (Kind::Error, "Error codes", "The code in `error[CODE]`, and the field `code` of an error with `--json`."),
        (Kind::Reason, "Reason codes", "The reason of an outcome, or of a Job that waits or runs."),
    ] {
        page.push_str(&format!("\n## {title}\n\n{text}\n\n| code | cause | what to do |\n| --- | --- | --- |\n"));
        for (code, cause, fix) in kind.entries() {
            page.push_str(&format!("| `{code}` | {cause} | {fix} |\n"));
        }
    }
    page
}

#[test]
fn the_page_of_codes_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/codes.md");
    if contract::config::variables().contains_key("UPDATE_GOLDEN") {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written, page(), "docs/codes.md differs from the table; UPDATE_GOLDEN=1 refreshes it");
}
