//! Which of the two programs runs, and how messages name its commands.

use std::{borrow::Cow, sync::OnceLock};

/// The command in every message of the source.
const XTASK: &str = "cargo xtask";
/// The program with only the daily verbs.
const DESKGRID: &str = "deskgrid";
/// Its verbs, in the order of its help.
pub const DAILY_VERBS: [&str; 11] = [
    "submit",
    "jobs",
    "job",
    "logs",
    "results",
    "verify",
    "session",
    "dead-letters",
    "status",
    "explain",
    "completions",
];

static IS_DESKGRID: OnceLock<()> = OnceLock::new();

/// Makes messages name commands of `deskgrid`.
pub fn set_deskgrid() {
    IS_DESKGRID.get_or_init(|| ());
}

/// Whether the program is `deskgrid`.
pub fn is_deskgrid() -> bool {
    IS_DESKGRID.get().is_some()
}

/// A message with its commands as this program takes them. Commands that `deskgrid` lacks stay `cargo xtask`: they are
/// for the operators of the environment.
pub fn with_own_commands(text: &str) -> Cow<'_, str> {
    if is_deskgrid() && text.contains(XTASK) { Cow::Owned(as_deskgrid(text)) } else { Cow::Borrowed(text) }
}

fn as_deskgrid(text: &str) -> String {
    let mut message = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(XTASK) {
        let (before, after) = (&rest[..start], &rest[start + XTASK.len()..]);
        message.push_str(before);
        let mut words = after.split([' ', '`', '\n', '"', ',', ';']).filter(|word| !word.is_empty());
        let mut verb = words.next().unwrap_or_default();
        if ["--env", "--config"].contains(&verb) {
            verb = words.nth(1).unwrap_or_default();
        }
        message.push_str(if DAILY_VERBS.contains(&verb) { DESKGRID } else { XTASK });
        rest = after;
    }
    message.push_str(rest);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_deskgrid_name_its_commands() {
        for (text, expected) in [
            ("`cargo xtask jobs` lists them", "`deskgrid jobs` lists them"),
            ("next: cargo xtask --env local session wait S", "next: deskgrid --env local session wait S"),
            ("cargo xtask provision, then cargo xtask status", "cargo xtask provision, then deskgrid status"),
            ("cargo xtask", "cargo xtask"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(as_deskgrid(text), expected);
        }
    }
}
