//! What is wrong with an environment file, shown where it is wrong.

use std::{fmt, ops::Range};

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Bytes of the file.
    File(Range<usize>),
    /// An environment variable.
    Variable(String),
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, in one line.
    pub message: String,
    /// What to do about it, when we know.
    pub help: Option<String>,
}

/// Everything that is wrong with one file, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// The file as a person would name it.
    pub file: String,
    /// Its text.
    pub source: String,
    /// At least one.
    pub list: Vec<Problem>,
}

impl Problems {
    /// Orders the problems as a person reads the file; those of variables come last.
    pub(super) fn new(file: &str, source: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| match &problem.place {
            Place::File(range) => (0, range.start),
            Place::Variable(_) => (1, 0),
        });
        Self { file: file.to_owned(), source: source.to_owned(), list }
    }

    /// Line and column of a byte of the file, both from 1, the column in characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.source.len());
        while !self.source.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.source[..end];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Each problem with its place, the source line and a marker; with ANSI colours when `colour` is set.
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for problem in &self.list {
            text.push_str(&renderer.render(&[self.report(problem)]));
            text.push_str("\n\n");
        }
        let count = self.list.len();
        let plural = if count == 1 { "" } else { "s" };
        text.push_str(&format!("{count} problem{plural} in {}", self.file));
        text
    }

    fn report<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let help = problem.help.as_deref().map(|help| Level::HELP.message(help));
        match &problem.place {
            Place::File(range) => {
                let start = range.start.min(self.source.len());
                // A marker over several lines hides more than it shows.
                let end = range.end.clamp(start, self.source.len());
                let end = self.source[start..end].find('\n').map_or(end, |newline| start + newline);
                let snippet = Snippet::source(self.source.as_str())
                    .path(self.file.as_str())
                    .annotation(AnnotationKind::Primary.span(start..end));
                Level::ERROR.primary_title(problem.message.as_str()).element(snippet).elements(help)
            }
            Place::Variable(name) => {
                Level::ERROR.primary_title(format!("environment variable {name}: {}", problem.message)).elements(help)
            }
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}
