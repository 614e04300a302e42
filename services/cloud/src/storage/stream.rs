//! Streams: uploads that can be read only once, and reads of large objects, with a few pieces in memory.

use std::{collections::BTreeMap, io, pin::Pin, sync::Arc};

use anyhow::Context as _;
use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt as _};
use google_cloud_gax::paginator::ItemPaginator as _;
use google_cloud_storage::{
    builder::storage::ReadObject,
    model_ext::ReadRange,
    streaming_source::{SizeHint, StreamingSource},
};
use tokio::sync::Mutex;

use super::{
    gzip::Decoder,
    store::{Object, Properties, Store, Written, full, is_not_found, written_once},
    upload::Fingerprint,
};

/// Bytes that are kept until Cloud Storage has confirmed them, so that an upload can continue after a broken
/// connection. A multiple of 256 KiB.
const WINDOW: usize = 2 * 1024 * 1024;
/// Bytes of a compressed object that are decompressed at once, which gives at most about a thousand times as many.
const PIECE: usize = 16 * 1024;

/// Bytes that can be read only once. Clones are the same stream.
#[derive(Clone)]
pub struct Incoming(Arc<Mutex<State>>);

struct State {
    stream: Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>,
    expected: Option<u64>,
    size: i64,
    crc32c: u32,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Incoming").finish()
    }
}

impl Incoming {
    /// The bytes of `stream`, and their number when it is known.
    pub fn new(stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static, expected: Option<u64>) -> Self {
        Self(Arc::new(Mutex::new(State { stream: Box::pin(stream), expected, size: 0, crc32c: 0 })))
    }

    /// Reads the rest, and returns size and CRC32C of all bytes.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn rest(&self) -> io::Result<(i64, u32)> {
        let mut state = self.0.lock().await;
        while state.next().await.transpose()?.is_some() {}
        Ok((state.size, state.crc32c))
    }
}

impl State {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        let item = self.stream.next().await?;
        if let Ok(bytes) = &item {
            self.size += i64::try_from(bytes.len()).unwrap_or_default();
            self.crc32c = crc32c::crc32c_append(self.crc32c, bytes);
        }
        Some(item)
    }
}

impl StreamingSource for Incoming {
    type Error = io::Error;

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.0.lock().await.next().await
    }

    async fn size_hint(&self) -> io::Result<SizeHint> {
        Ok(self.0.lock().await.expected.map_or_else(SizeHint::new, SizeHint::with_exact))
    }
}

/// An object that was opened for reading.
pub struct Contents {
    /// Its description, without custom metadata; the size is that of the stored bytes.
    pub object: Object,
    response: google_cloud_storage::read_object::ReadObjectResponse,
    decoder: Decoder,
    /// Stored bytes that are not decoded yet.
    stored: Bytes,
    context: String,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("object", &self.object).finish_non_exhaustive()
    }
}

impl Contents {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When the service cannot be reached any more, or what is stored compressed is damaged.
    pub async fn next(&mut self) -> Option<anyhow::Result<Bytes>> {
        self.try_next().await.with_context(|| self.context.clone()).transpose()
    }

    async fn try_next(&mut self) -> anyhow::Result<Option<Bytes>> {
        const DAMAGED: &str = "decompress it, as its content encoding says; write it again, or without that encoding";
        loop {
            if self.stored.is_empty() {
                let Some(stored) = self.response.next().await.transpose()? else {
                    let last = self.decoder.finish().context(DAMAGED)?;
                    return Ok(Some(last).filter(|last| !last.is_empty()));
                };
                self.stored = stored;
            }
            let piece = self.stored.split_to(self.stored.len().min(PIECE));
            let file = self.decoder.decode(piece).context(DAMAGED)?;
            if !file.is_empty() {
                return Ok(Some(file));
            }
        }
    }

    /// Has `use_` read it, on a thread that may block; an error of the service counts before what `use_` makes of it.
    ///
    /// # Errors
    /// As [`Contents::next`].
    pub fn read_blocking<T>(&mut self, use_: impl FnOnce(&mut dyn io::Read) -> T) -> anyhow::Result<T> {
        let mut reader = Reader { contents: self, piece: Bytes::new(), error: None };
        let made = use_(&mut reader);
        reader.error.map_or(Ok(made), Err)
    }

    /// All of it; `None` when it has more than `most` bytes.
    ///
    /// # Errors
    /// As [`Contents::next`].
    pub async fn all(&mut self, most: usize) -> anyhow::Result<Option<Bytes>> {
        let size = usize::try_from(self.object.size).unwrap_or_default();
        if size > most {
            return Ok(None);
        }
        let mut all = BytesMut::with_capacity(size);
        while let Some(bytes) = self.next().await.transpose()? {
            if all.len() + bytes.len() > most {
                return Ok(None);
            }
            all.extend_from_slice(&bytes);
        }
        Ok(Some(all.freeze()))
    }
}

/// Reads an object on a thread that may block.
struct Reader<'c> {
    contents: &'c mut Contents,
    piece: Bytes,
    error: Option<anyhow::Error>,
}

impl io::Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            match tokio::runtime::Handle::current().block_on(self.contents.next()).transpose() {
                Ok(next) => self.piece = next.unwrap_or_default(),
                Err(error) => {
                    self.error = Some(error);
                    return Err(io::Error::other("the service cannot be reached"));
                }
            }
        }
        let piece = self.piece.split_to(self.piece.len().min(into.len()));
        into[..piece.len()].copy_from_slice(&piece);
        Ok(piece.len())
    }
}

impl Store {
    /// Writes a stream as an object, unless there is one of that name (`ifGenerationMatch=0`). Nothing is
    /// written when the stream ends in an error.
    ///
    /// # Errors
    /// The stream's own, access that is denied, or a service that cannot be reached.
    pub async fn write_incoming_once(
        &self,
        bucket: &str,
        object: &str,
        incoming: &Incoming,
        properties: Properties,
    ) -> anyhow::Result<Written> {
        let request = self
            .storage
            .write_object(full(bucket), object, incoming.clone())
            .set_if_generation_match(0_i64)
            .set_content_type(properties.content_type)
            .set_metadata(properties.metadata)
            .with_resumable_upload_threshold(WINDOW)
            .with_resumable_upload_buffer_size(WINDOW);
        written_once(request.send_buffered().await, bucket, object)
    }

    /// The fingerprint and custom metadata of an object from a listing, which needs no permission to read the object;
    /// `None` when there is no such object.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn listed(
        &self,
        bucket: &str,
        object: &str,
    ) -> anyhow::Result<Option<(Fingerprint, BTreeMap<String, String>)>> {
        Ok(self.first(bucket, object).await?.map(|mut first| {
            let metadata = std::mem::take(&mut first.metadata).into_iter().collect();
            (Fingerprint::stored(first), metadata)
        }))
    }

    /// An object as a listing shows it.
    pub(super) async fn first(
        &self,
        bucket: &str,
        object: &str,
    ) -> anyhow::Result<Option<google_cloud_storage::model::Object>> {
        // Of all names with this prefix, the prefix itself comes first.
        let request = self.control.list_objects().set_parent(full(bucket)).set_prefix(object).set_page_size(1);
        let first = request.by_item().next().await.transpose();
        let first = first.with_context(|| format!("list gs://{bucket}/{object}"))?;
        Ok(first.filter(|first| first.name == object))
    }

    /// Opens an object's live generation; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn open(&self, bucket: &str, object: &str) -> anyhow::Result<Option<Contents>> {
        self.open_generation(bucket, object, None).await
    }

    /// Opens an object, its live generation when none is given; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn open_generation(
        &self,
        bucket: &str,
        object: &str,
        generation: Option<i64>,
    ) -> anyhow::Result<Option<Contents>> {
        let request = self.storage.read_object(full(bucket), object);
        let request = match generation {
            Some(generation) => request.set_generation(generation),
            None => request,
        };
        Self::send_read(request, bucket, object).await
    }

    /// Opens a part of one generation of an object: `length` bytes from `offset`; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn open_part(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
        offset: u64,
        length: u64,
    ) -> anyhow::Result<Option<Contents>> {
        let request = self.storage.read_object(full(bucket), object).set_generation(generation);
        let request = request.set_read_range(ReadRange::segment(offset, length));
        Self::send_read(request, bucket, object).await
    }

    /// Reads a part of one generation of an object: `length` bytes from `offset`; `None` when it does not exist.
    ///
    /// # Errors
    /// When access is denied or the service cannot be reached.
    pub async fn read_part(
        &self,
        bucket: &str,
        object: &str,
        generation: i64,
        offset: u64,
        length: u64,
    ) -> anyhow::Result<Option<(Object, Bytes)>> {
        let Some(mut contents) = self.open_part(bucket, object, generation, offset, length).await? else {
            return Ok(None);
        };
        contents.object.size = i64::try_from(length).unwrap_or(i64::MAX);
        let bytes = contents.all(usize::MAX).await?.unwrap_or_default();
        Ok(Some((contents.object, bytes)))
    }

    async fn send_read(request: ReadObject, bucket: &str, object: &str) -> anyhow::Result<Option<Contents>> {
        let context = format!("read gs://{bucket}/{object}");
        let response = match request.send().await {
            Err(error) if is_not_found(&error) => return Ok(None),
            response => response.with_context(|| context.clone())?,
        };
        let highlights = response.object();
        let object = Object {
            name: object.to_owned(),
            generation: highlights.generation,
            size: highlights.size,
            created: None,
            content_type: highlights.content_type,
            metadata: BTreeMap::new(),
        };
        let decoder = Decoder::new(&highlights.content_encoding);
        Ok(Some(Contents { object, response, decoder, stored: Bytes::new(), context }))
    }
}
