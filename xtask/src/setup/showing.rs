//! Shows the plan of a deploy.

use cli::output::Output;
use provision::deploy::{Change, ChangeView, Plan};

/// Prints every change with what differs, as the result of a command.
///
/// # Errors
/// When standard output is closed.
pub(crate) fn show(plan: &Plan, output: &Output) -> anyhow::Result<()> {
    let changes = plan.changes();
    if output.json {
        return output.document(&changes);
    }
    for change in &changes {
        output.changes(&title(change))?;
        for line in change.difference.lines() {
            output.changes(&format!("    {line}"))?;
        }
        for conflict in &change.conflicts {
            output.changes(&format!("    ! {} is owned by {:?}", conflict.field, conflict.manager))?;
        }
    }
    output.line(format_args!("{}; nothing was changed", totals(&changes)))
}

/// Prints a line for each change, as a message.
pub(crate) fn note(plan: &Plan, output: &Output) {
    let changes = plan.changes();
    for change in &changes {
        output.note_changes(&(title(change) + "\n"));
    }
    output.note(totals(&changes));
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
