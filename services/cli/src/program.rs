//! Which of the two programs this is, and how it calls itself in what it says.

use std::{borrow::Cow, sync::OnceLock};

/// How `cargo xtask` is called in every message.
const XTASK: &str = "cargo xtask";
/// How the program with the daily verbs is called.
const DESKGRID: &str = "deskgrid";
/// The verbs that it has, in the order of its help.
pub const DAILY: [&str; 10] =
    ["submit", "jobs", "job", "logs", "results", "session", "dead-letters", "status", "explain", "completions"];

static IS_DESKGRID: OnceLock<()> = OnceLock::new();

/// From now on this is `deskgrid`.
pub fn be_deskgrid() {
    IS_DESKGRID.get_or_init(|| ());
}

/// Whether this is `deskgrid`.
pub fn is_deskgrid() -> bool {
    IS_DESKGRID.get().is_some()
}

/// A message with the commands in it as they are typed for this program. What `deskgrid` cannot do stays what it is: a
/// command for whoever looks after the environment.
pub fn spoken(text: &str) -> Cow<'_, str> {
    if is_deskgrid() && text.contains(XTASK) { Cow::Owned(as_deskgrid(text)) } else { Cow::Borrowed(text) }
}

fn as_deskgrid(text: &str) -> String {
    let mut said = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(XTASK) {
        let (before, after) = (&rest[..start], &rest[start + XTASK.len()..]);
        said.push_str(before);
        let mut words = after.split([' ', '`', '\n', '"', ',', ';']).filter(|word| !word.is_empty());
        let mut verb = words.next().unwrap_or_default();
        if ["--env", "--config"].contains(&verb) {
            verb = words.nth(1).unwrap_or_default();
        }
        said.push_str(if DAILY.contains(&verb) { DESKGRID } else { XTASK });
        rest = after;
    }
    said.push_str(rest);
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deskgrid_can_do_is_said_as_deskgrid() {
        for (text, said) in [
            ("`cargo xtask jobs` lists them", "`deskgrid jobs` lists them"),
            ("next: cargo xtask --env local session wait S", "next: deskgrid --env local session wait S"),
            ("cargo xtask provision, then cargo xtask status", "cargo xtask provision, then deskgrid status"),
            ("cargo xtask", "cargo xtask"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(as_deskgrid(text), said);
        }
    }
}
