//! Tables whose rows are divided between the tasks of a Job.

use std::ops::Range;

/// The number of tasks for so many rows; `None` when it is out of range.
pub fn tasks(rows: usize, rows_per_task: u32) -> Option<u32> {
    u32::try_from(rows.div_ceil(usize::try_from(rows_per_task.max(1)).ok()?)).ok()
}

/// The rows of a task.
pub fn rows_of(task: u32, rows_per_task: u32) -> Range<usize> {
    let (task, size) = (task as usize, rows_per_task as usize);
    task.saturating_mul(size)..task.saturating_add(1).saturating_mul(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_divide_the_rows() {
        assert_eq!([tasks(3, 2), tasks(4, 2), tasks(0, 2)], [Some(2), Some(2), Some(0)]);
        assert_eq!([rows_of(0, 2), rows_of(1, 2)], [0..2, 2..4]);
    }
}
