//! Ctrl-C: ends a verb and the programs that it started, and prints the command to run next.

use std::sync::LazyLock;

use cloud::shutdown;
use contract::exit;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{error::Failure, text};

/// The exit code of a verb that a signal ended; none when no signal was received.
pub fn exit_code() -> Option<u8> {
    shutdown::received().map(|number| exit::SIGNAL + number)
}

/// Number of steps that finish their work after the signal.
static FINISHING: LazyLock<watch::Sender<usize>> = LazyLock::new(watch::Sender::default);

/// Held by a step of a verb that handles the signal itself: the verb does not end before it is dropped.
#[derive(Debug)]
pub struct Finishing(());

impl Finishing {
    /// Begins such a step.
    pub fn begin() -> Self {
        FINISHING.send_modify(|steps| *steps += 1);
        Self(())
    }
}

impl Drop for Finishing {
    fn drop(&mut self) {
        FINISHING.send_modify(|steps| *steps -= 1);
    }
}

/// Runs `work`. A signal ends it, with the programs that it started, unless it `handles_interrupt` itself.
///
/// # Errors
/// When `work` fails, or a signal ends it.
pub async fn guard(handles_interrupt: bool, work: impl Future<Output = anyhow::Result<u8>>) -> anyhow::Result<u8> {
    if handles_interrupt {
        return work.await;
    }
    unless_interrupted(work).await
}

/// Runs `work` until a signal: for a step of a verb that handles the signal in its other steps.
///
/// # Errors
/// When `work` fails, or a signal ends it.
pub async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    until(shutdown::on_signal()?, work).await
}

/// Runs `work` until `stop`. A step that holds [`Finishing`] finishes first; the next step is not begun.
async fn until<T>(stop: CancellationToken, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut finishing = FINISHING.subscribe();
    let stopped = async {
        stop.cancelled().await;
        // The sender is never dropped.
        let _ = finishing.wait_for(|steps| *steps == 0).await;
    };
    tokio::select! {
        // The result of a finished step comes before the interrupt.
        biased;
        done = work => done,
        () = stopped => {
            let words: Vec<String> = std::env::args().skip(1).map(|word| text::shell(&word)).collect();
            Err(Failure::new("interrupted", "the verb was interrupted")
                .why("it received a signal; completed steps are kept")
                .next(format!("run it again: cargo xtask {}", words.join(" ")))
                .into())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_step_that_handles_the_signal_finishes_and_no_other_begins() {
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let error = until(stop.clone(), async {
            let step = Finishing::begin();
            stop.cancel();
            // The signal alone does not end the step.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            ended.cancel();
            drop(step);
            std::future::pending::<()>().await;
            Ok(())
        });
        let error = tokio::time::timeout(Duration::from_secs(60), error).await.expect("the verb ends").unwrap_err();
        assert!(ended.is_cancelled(), "the step was cut off: {error:#}");
        assert!(error.to_string().contains("interrupted"), "{error:#}");

        // The error of the step is the error of the verb.
        let stop = CancellationToken::new();
        let error = until::<()>(stop.clone(), async {
            let step = Finishing::begin();
            stop.cancel();
            tokio::task::yield_now().await;
            drop(step);
            anyhow::bail!("the build was cancelled")
        });
        assert_eq!(error.await.unwrap_err().to_string(), "the build was cancelled");
    }
}
