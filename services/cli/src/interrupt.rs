//! Ctrl-C: a verb ends at once, takes what it started with it, and says what to run next.

use std::sync::LazyLock;

use cloud::shutdown;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{error::Failure, text};

/// How many parts of verbs are at work that bring what is in hand to an end by themselves.
static IN_HAND: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// Held by a part of a verb that hears the signal itself: its verb goes on until it has said what came of it.
#[derive(Debug)]
pub struct InHand(());

impl InHand {
    /// From now on, until it is dropped.
    pub fn begin() -> Self {
        IN_HAND.send_modify(|parts| *parts += 1);
        Self(())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        IN_HAND.send_modify(|parts| *parts -= 1);
    }
}

/// Runs `work`, unless the person interrupts it and it does not handle that itself. Programs that it started end with it.
///
/// # Errors
/// As `work`, or that it was interrupted.
pub async fn guard(handles_interrupt: bool, work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    if handles_interrupt {
        return work.await;
    }
    unless_interrupted(work).await
}

/// What `work` comes to, unless the person interrupts it: for a part of a verb that minds itself otherwise.
///
/// # Errors
/// As `work`, or that it was interrupted.
pub async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    until(shutdown::on_signal()?, work).await
}

/// What `work` comes to, unless `stop` ends it. A part of it that is in hand comes to its end first; what would follow
/// that is not begun.
async fn until<T>(stop: CancellationToken, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut in_hand = IN_HAND.subscribe();
    let stopped = async {
        stop.cancelled().await;
        // The sender is never dropped.
        let _ = in_hand.wait_for(|parts| *parts == 0).await;
    };
    tokio::select! {
        // What the part in hand said at its end counts.
        biased;
        done = work => done,
        () = stopped => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| text::shell(&word)).collect();
            Err(Failure::new("interrupted", "the verb was interrupted")
                .why("it received a signal; what was done so far stays, and is found again")
                .next(format!("the same again: cargo xtask {}", words.join(" ")))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_in_hand_comes_to_its_end_and_nothing_follows_it() {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let said = until(stop.clone(), async {
            let hand = InHand::begin();
            stop.cancel();
            // Nothing else is waited for: the signal alone does not end a part that is in hand.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            ended.cancel();
            drop(hand);
            std::future::pending::<()>().await;
            Ok(())
        });
        let said = tokio::time::timeout(Duration::from_secs(60), said).await.expect("the verb goes on").unwrap_err();
        assert!(ended.is_cancelled(), "the part in hand was cut off: {said:#}");
        assert!(said.to_string().contains("interrupted"), "{said:#}");

        // What it says of its end is what the verb says.
        let stop = CancellationToken::new();
        let said = until::<()>(stop.clone(), async {
            let hand = InHand::begin();
            stop.cancel();
            tokio::task::yield_now().await;
            drop(hand);
            anyhow::bail!("the build was cancelled")
        });
        assert_eq!(said.await.unwrap_err().to_string(), "the build was cancelled");
    }
}
