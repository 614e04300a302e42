//! Shows the plan of a deploy.

use cli::output::Output;
use provision::deploy::{Change, ChangeView};

/// Prints every change with what differs, as the result of a command.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn show(changes: &[ChangeView], output: &Output) -> anyhow::Result<()> {
    if output.json {
        return output.document(&changes);
    }
    for change in changes {
        output.changes(&title(change))?;
        for line in change.difference.lines() {
            output.changes(&format!("    {line}"))?;
        }
        for conflict in &change.conflicts {
            output.changes(&format!("    ! {} is owned by {:?}", conflict.field, conflict.manager))?;
        }
    }
    output.line(format_args!("{}; nothing was changed", totals(changes)))
}

/// Prints a line for each change, as a message; of a Secret, whose content is never shown, also what it is about.
pub(crate) fn note(changes: &[ChangeView], output: &Output) {
    for change in changes {
        let lines = change.difference.lines().filter(|_| change.applied.kind == "Secret");
        let lines: String = lines.map(|line| format!("    {line}\n")).collect();
        output.note_changes(&format!("{}\n{lines}", title(change)));
    }
    output.note(format_args!("cluster: {}", totals(changes)));
}

fn title(change: &ChangeView) -> String {
    let mark = match change.applied.change {
        Change::Created => '+',
        Change::Changed => '~',
        Change::Pruned => '-',
        Change::Unchanged => ' ',
    };
    format!("{mark} {} {}", change.applied.change.verb(), change.applied)
}

fn totals(changes: &[ChangeView]) -> String {
    let count = |wanted: Change| changes.iter().filter(|change| change.applied.change == wanted).count();
    let (new, changed, gone) = (count(Change::Created), count(Change::Changed), count(Change::Pruned));
    format!("{new} to create, {changed} to change, {gone} to delete")
}
