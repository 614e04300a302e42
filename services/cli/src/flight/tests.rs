//! What is drawn, on a screen of 80 columns.

use std::sync::Arc;

use indicatif::{ProgressDrawTarget, TermLike};

use super::*;

const WIDTH: u16 = 80;

/// A screen, as far as progress moves about on it.
#[derive(Debug, Default)]
struct Page {
    lines: Vec<String>,
    row: usize,
    column: usize,
}

#[derive(Clone, Debug, Default)]
struct Screen(Arc<Mutex<Page>>);

impl Screen {
    fn page(&self) -> MutexGuard<'_, Page> {
        self.0.lock().unwrap()
    }

    fn lines(&self) -> Vec<String> {
        self.page().lines.iter().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    }

    /// Waits until the lines are like this: they are drawn a few times a second.
    fn comes_to(&self, what: &str, holds: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        while !holds(&self.lines()) {
            assert!(begun.elapsed() < Duration::from_secs(30), "{what}: {:#?}", self.lines());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl TermLike for Screen {
    fn width(&self) -> u16 {
        WIDTH
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        let mut page = self.page();
        page.row = page.row.saturating_sub(n);
        Ok(())
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.page().row += n;
        Ok(())
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.page().column += n;
        Ok(())
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        let mut page = self.page();
        page.column = page.column.saturating_sub(n);
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)?;
        let mut page = self.page();
        (page.row, page.column) = (page.row + 1, 0);
        Ok(())
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        let mut page = self.page();
        for letter in text.chars() {
            match letter {
                '\n' => (page.row, page.column) = (page.row + 1, 0),
                '\r' => page.column = 0,
                letter => {
                    // A full line goes on in the next one.
                    if page.column >= usize::from(WIDTH) {
                        (page.row, page.column) = (page.row + 1, 0);
                    }
                    let (row, column) = (page.row, page.column);
                    if page.lines.len() <= row {
                        page.lines.resize(row + 1, String::new());
                    }
                    let mut line: Vec<char> = page.lines[row].chars().collect();
                    if line.len() <= column {
                        line.resize(column + 1, ' ');
                    }
                    line[column] = letter;
                    page.lines[row] = line.into_iter().collect();
                    page.column += 1;
                }
            }
        }
        Ok(())
    }

    fn clear_line(&self) -> io::Result<()> {
        let mut page = self.page();
        let row = page.row;
        if let Some(line) = page.lines.get_mut(row) {
            line.clear();
        }
        page.column = 0;
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_in_flight_fits_on_the_screen_and_the_share_is_shown() {
    let screen = Screen::default();
    let terminal = MultiProgress::with_draw_target(ProgressDrawTarget::term_like(Box::new(screen.clone())));
    let flight = Flight { output: Output::default(), terminal: Some(terminal), state: Mutex::default() };
    let name = |number: usize| {
        format!("permissions on service account a-rather-long-name-{number:02}@a-long-project-name-too")
    };
    for number in 0..40 {
        flight.begun(&name(number));
    }
    flight.begun("cluster desk-cluster");
    screen.comes_to("ten lines and a count", |lines| {
        let whole = |line: &String| line.starts_with("  ") && line.contains("permissions on service account");
        lines.len() == LINES_MAX + 1
            && lines[..LINES_MAX].iter().all(whole)
            && lines.last().is_some_and(|line| line.trim() == "and 31 more")
    });
    // A task with progress has a line, although many began before it.
    flight.advanced("cluster desk-cluster", "cluster deploying 3/12", Some(50));
    screen.comes_to("half of the cluster", |lines| {
        let cluster = lines.iter().find(|line| line.contains("cluster desk-cluster: cluster deploying 3/12"));
        cluster.is_some_and(|line| line.contains(" 50 % "))
    });
    flight.advanced("cluster desk-cluster", "cluster healthchecking 1/2", Some(95));
    screen.comes_to("nearly all of it", |lines| lines.iter().any(|line| line.contains(" 95 % ")));
    assert!(!screen.lines().iter().any(|line| line.contains(" 50 % ")), "{:#?}", screen.lines());
    for number in 0..40 {
        flight.ended(&name(number), format_args!("  done {number}"));
    }
    flight.ended("cluster desk-cluster", "  done cluster");
    screen.comes_to("only what is done", |lines| lines.len() == 41 && lines.iter().all(|line| line.contains("done")));
}
