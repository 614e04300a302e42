//! A body with a size limit, whose beginning can be read before the body is passed on.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use cloud::storage::Incoming;
use futures::{Stream, StreamExt as _};
use web::Problem;

/// Bytes of a too large upload that are read before it is refused.
const MAX_DISCARDED: u64 = 16 * 1024 * 1024;

/// A body with a size limit, and its error.
pub(crate) struct Limited {
    body: futures::stream::BoxStream<'static, io::Result<Bytes>>,
    /// Size that the sender announced.
    expected: Option<u64>,
    failure: Arc<Mutex<Option<Problem>>>,
    head: Vec<Bytes>,
    is_whole: bool,
}

impl Limited {
    /// A body of at most `max` bytes. A part of a larger one is read and discarded, so that the sender receives the
    /// reason of the refusal.
    pub(crate) fn new(
        body: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
        expected: Option<u64>,
        max: u64,
    ) -> Self {
        let failure: Arc<Mutex<Option<Problem>>> = Arc::default();
        let noted = failure.clone();
        let body = async_stream::stream! {
            let mut body = std::pin::pin!(body);
            let note = |problem| *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
            let (mut received, mut discarded) = (0_u64, 0_u64);
            let mut is_too_large = expected.is_some_and(|expected| expected > max);
            while let Some(piece) = body.next().await {
                match piece {
                    Ok(piece) => {
                        received += piece.len() as u64;
                        is_too_large |= received > max;
                        if !is_too_large {
                            yield Ok(piece);
                            continue;
                        }
                        discarded += piece.len() as u64;
                        if discarded > MAX_DISCARDED {
                            break;
                        }
                    }
                    Err(error) => {
                        note(
                            Problem::bad_request("The upload was interrupted")
                                .why(error.to_string())
                                .next("Nothing was submitted; send it again."),
                        );
                        yield Err(error);
                        return;
                    }
                }
            }
            if is_too_large {
                note(too_large(max));
                yield Err(io::Error::other("it is too large"));
            }
        };
        Self { body: body.boxed(), expected, failure, head: Vec::new(), is_whole: false }
    }

    /// Its first piece, which is still passed on; empty at the end.
    ///
    /// # Errors
    /// When it breaks off or is too large.
    pub(crate) async fn begins(&mut self) -> Result<Bytes, Problem> {
        match self.body.next().await {
            None => Ok(Bytes::new()),
            Some(Ok(piece)) => {
                self.head.push(piece.clone());
                Ok(piece)
            }
            Some(Err(error)) => Err(self.problem().unwrap_or_else(|| Problem::internal(error.into()))),
        }
    }

    /// All of it, if it has at most `limit` bytes; otherwise what was read is still passed on.
    ///
    /// # Errors
    /// When it breaks off or is too large.
    pub(crate) async fn whole(&mut self, limit: usize) -> Result<Option<Bytes>, Problem> {
        let mut size = self.head.iter().map(Bytes::len).sum();
        while size <= limit {
            match self.body.next().await {
                None => {
                    self.is_whole = true;
                    let mut all = BytesMut::with_capacity(size);
                    self.head.iter().for_each(|piece| all.extend_from_slice(piece));
                    let all = all.freeze();
                    self.head = vec![all.clone()];
                    return Ok(Some(all));
                }
                Some(Ok(piece)) => {
                    size += piece.len();
                    self.head.push(piece);
                }
                Some(Err(error)) => return Err(self.problem().unwrap_or_else(|| Problem::internal(error.into()))),
            }
        }
        Ok(None)
    }

    fn problem(&self) -> Option<Problem> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The body to pass on, and its failure, if there will be one.
    pub(crate) fn incoming(self) -> (Incoming, Arc<Mutex<Option<Problem>>>) {
        let size =
            if self.is_whole { Some(self.head.iter().map(|piece| piece.len() as u64).sum()) } else { self.expected };
        let head = futures::stream::iter(self.head.into_iter().map(Ok));
        (Incoming::new(head.chain(self.body), size), self.failure)
    }
}

fn too_large(max: u64) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", "This upload is too large")
        .why(format!("an upload may have {}", size(max)))
        .next("Split it into several inputs, or have its session share the data that all of them read.")
}

/// A size for people.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    let decimals = usize::from(unit > 0 && value.fract() > 0.0);
    format!("{value:.decimals$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(sizes: &[usize]) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        futures::stream::iter(sizes.iter().map(|size| Ok(Bytes::from(vec![b'x'; *size]))).collect::<Vec<_>>())
    }

    #[tokio::test]
    async fn a_small_body_is_known_whole_and_a_large_one_passes_in_order() {
        let mut small = Limited::new(pieces(&[3, 4]), None, 100);
        assert_eq!(small.begins().await.unwrap().len(), 3);
        assert_eq!(small.whole(10).await.unwrap().unwrap().len(), 7);
        assert_eq!(small.incoming().0.rest().await.unwrap().0, 7);
        let mut large = Limited::new(pieces(&[8, 8, 8]), None, 100);
        assert_eq!(large.whole(10).await.unwrap(), None);
        assert_eq!(large.incoming().0.rest().await.unwrap().0, 24);
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_when_announced_and_when_it_comes() {
        let refused = Limited::new(pieces(&[1]), Some(101), 100).begins().await.unwrap_err();
        assert_eq!((refused.status, refused.code), (StatusCode::PAYLOAD_TOO_LARGE, "too-large"));
        let mut liar = Limited::new(pieces(&[60, 60]), Some(10), 100);
        assert_eq!(liar.whole(1000).await.unwrap_err().code, "too-large");
        let (incoming, failure) = Limited::new(pieces(&[60, 60]), None, 100).incoming();
        assert!(incoming.rest().await.is_err());
        assert_eq!(failure.lock().unwrap().take().unwrap().code, "too-large");
    }

    #[test]
    fn sizes() {
        for (bytes, text) in [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (1536, "1.5 KiB"), (5 << 30, "5 GiB")] {
            assert_eq!(size(bytes), text);
        }
    }
}
