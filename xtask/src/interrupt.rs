//! Ctrl-C: a verb ends at once, takes what it started with it, and says what to run next.

use std::sync::atomic::{AtomicUsize, Ordering};

use common::shutdown;

use crate::{args::Verb, error::Failure, text};

/// Parts of verbs at work that bring what is in hand to an end by themselves.
static IN_HAND: AtomicUsize = AtomicUsize::new(0);

/// Held by a part of a verb that hears the signal itself: its verb goes on until it has said what came of it.
#[derive(Debug)]
pub(crate) struct InHand(());

impl InHand {
    /// From now on, until it is dropped.
    pub(crate) fn begin() -> Self {
        IN_HAND.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        IN_HAND.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether a verb brings what is in hand to an end by itself when it is interrupted.
fn minds_itself(verb: Option<&Verb>) -> bool {
    matches!(
        verb,
        Some(Verb::Build(_) | Verb::Demo(_) | Verb::Local(_) | Verb::Submit(_) | Verb::Logs(_) | Verb::Open(_))
    )
}

/// What `work` comes to, unless the person interrupts it. Programs that it started end with it.
///
/// # Errors
/// As `work`, or that it was interrupted.
pub(crate) async fn guard(verb: Option<&Verb>, work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    if minds_itself(verb) {
        return work.await;
    }
    unless_interrupted(work).await
}

/// What `work` comes to, unless the person interrupts it: for a part of a verb that minds itself otherwise.
///
/// # Errors
/// As `work`, or that it was interrupted.
pub(crate) async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let stop = shutdown::on_signal()?;
    let mut work = std::pin::pin!(work);
    tokio::select! {
        done = &mut work => done,
        () = stop.cancelled() => {
            if IN_HAND.load(Ordering::SeqCst) > 0 {
                return work.await;
            }
            let words: Vec<String> = std::env::args().skip(1).map(|word| text::shell(&word)).collect();
            Err(Failure::new("interrupted", "the verb was interrupted")
                .why("it received a signal; what was done so far stays, and is found again")
                .next(format!("the same again: cargo xtask {}", words.join(" ")))
                .into())
        }
    }
}
