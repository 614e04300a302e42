//! The text of a Job with gaps where Jobs differ, so that the Job of a message costs no more than its own few values.

use anyhow::Context as _;
use serde_json::Value;

/// What differs from Job to Job of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    Name,
    Work,
    Received,
    MessageId,
    Published,
    Session,
    Job,
}

/// A value for every gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Values {
    pub(super) name: String,
    /// The work as JSON.
    pub(super) work: String,
    pub(super) received: String,
    pub(super) message_id: String,
    pub(super) published: Option<String>,
    /// As a label.
    pub(super) session: String,
    /// As a label.
    pub(super) job: String,
}

impl Gap {
    const ALL: [Self; 7] =
        [Self::Name, Self::Work, Self::Received, Self::MessageId, Self::Published, Self::Session, Self::Job];

    /// What stands there while the frame is cut: no template has control characters.
    fn mark(self) -> String {
        format!("\u{1}{self:?}\u{1}")
    }

    fn value(self, values: &Values) -> &str {
        match self {
            Self::Name => &values.name,
            Self::Work => &values.work,
            Self::Received => &values.received,
            Self::MessageId => &values.message_id,
            Self::Published => values.published.as_deref().unwrap_or_default(),
            Self::Session => &values.session,
            Self::Job => &values.job,
        }
    }
}

/// A text that is cut at its gaps: pieces, each with the gap that follows it, and the rest.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pieces: Vec<(String, Gap)>,
    rest: String,
}

impl Frame {
    /// Cuts what `make` makes of values that mark their places.
    ///
    /// # Errors
    /// When it makes nothing, or leaves a value out.
    pub(super) fn cut(make: impl FnOnce(&Values) -> anyhow::Result<Value>) -> anyhow::Result<Self> {
        let marks = Values {
            name: Gap::Name.mark(),
            work: Gap::Work.mark(),
            received: Gap::Received.mark(),
            message_id: Gap::MessageId.mark(),
            published: Some(Gap::Published.mark()),
            session: Gap::Session.mark(),
            job: Gap::Job.mark(),
        };
        let text = make(&marks)?.to_string();
        // As JSON has them, in quotes.
        let quoted: Vec<(Gap, String)> =
            Gap::ALL.iter().map(|gap| (*gap, Value::String(gap.mark()).to_string())).collect();
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        let next = |rest: &str| {
            let found = quoted.iter().filter_map(|(gap, mark)| Some((rest.find(mark.as_str())?, *gap, mark.len())));
            found.min_by_key(|(at, ..)| *at)
        };
        while let Some((at, gap, length)) = next(rest) {
            pieces.push((rest[..at].to_owned(), gap));
            rest = &rest[at + length..];
        }
        for gap in Gap::ALL {
            pieces.iter().find(|(_, other)| *other == gap).with_context(|| format!("find the place of {gap:?}"))?;
        }
        Ok(Self { rest: rest.to_owned(), pieces })
    }

    /// The text with these values.
    ///
    /// # Errors
    /// None: writing to memory does not fail.
    pub(super) fn fill(&self, values: &Values) -> anyhow::Result<Vec<u8>> {
        let fixed: usize = self.pieces.iter().map(|(text, _)| text.len()).sum();
        let mut text = Vec::with_capacity(fixed + self.rest.len() + 4 * values.work.len() + 512);
        for (piece, gap) in &self.pieces {
            text.extend_from_slice(piece.as_bytes());
            serde_json::to_writer(&mut text, gap.value(values)).context("encode the Job")?;
        }
        text.extend_from_slice(self.rest.as_bytes());
        Ok(text)
    }
}
