//! Ctrl-C: a verb ends at once, takes what it started with it, and says what to run next.

use common::shutdown;

use crate::{args::Verb, error::Failure, text};

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
    tokio::select! {
        done = work => done,
        () = stop.cancelled() => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| text::shell(&word)).collect();
            Err(Failure::new("interrupted", "the verb was interrupted")
                .why("it received a signal; what was done so far stays, and is found again")
                .next(format!("the same again: cargo xtask {}", words.join(" ")))
                .into())
        }
    }
}
