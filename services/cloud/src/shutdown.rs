//! A token that SIGTERM or SIGINT cancels, and which of them it was.

use std::sync::atomic::{AtomicU8, Ordering};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The number of the first signal; 0 before.
static RECEIVED: AtomicU8 = AtomicU8::new(0);

/// A token that SIGTERM or SIGINT cancels. Must be called inside a Tokio runtime.
///
/// # Errors
/// When the handlers cannot be installed.
pub fn on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        let kind = tokio::select! {
            _ = terminate.recv() => SignalKind::terminate(),
            _ = interrupt.recv() => SignalKind::interrupt(),
        };
        let name = if kind == SignalKind::interrupt() { "SIGINT" } else { "SIGTERM" };
        tracing::info!("received {name}, stopping");
        let number = u8::try_from(kind.as_raw_value()).unwrap_or_default();
        let _ = RECEIVED.compare_exchange(0, number, Ordering::SeqCst, Ordering::SeqCst);
        cancelled.cancel();
    });
    Ok(token)
}

/// The number of the first signal that was received.
pub fn received() -> Option<u8> {
    Some(RECEIVED.load(Ordering::SeqCst)).filter(|number| *number > 0)
}
