//! Objects that are stored compressed, as `gsutil cp -Z` and `gcloud storage cp --gzip-local-all` write them.
//!
//! Google's client requests the stored bytes and verifies their checksum; the file is decompressed here. Cloud Storage
//! itself would not decompress it, because these tools also set `Cache-Control: no-transform`
//! (<https://cloud.google.com/storage/docs/transcoding>).

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;

/// `Content-Encoding` of an object that is stored compressed.
pub(super) const GZIP: &str = "gzip";
/// How a gzip file starts.
const MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Turns the stored bytes of an object into those of the file.
pub(super) enum Decoder {
    /// The object says that it is compressed, and no byte was read yet.
    Announced,
    /// The stored bytes are those of the file. So are those of an object that only says that it is compressed.
    Plain,
    Compressed(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Decoder {
    pub(super) fn new(content_encoding: &str) -> Self {
        if content_encoding == GZIP { Self::Announced } else { Self::Plain }
    }

    /// The bytes of the file that follow from these; none when more are needed.
    pub(super) fn decode(&mut self, stored: Bytes) -> io::Result<Bytes> {
        if matches!(self, Self::Announced) && !stored.is_empty() {
            let is_gzip = stored.starts_with(&MAGIC[..stored.len().min(MAGIC.len())]);
            *self = if is_gzip { Self::Compressed(Box::new(MultiGzDecoder::new(Vec::new()))) } else { Self::Plain };
        }
        let Self::Compressed(decoder) = self else { return Ok(stored) };
        decoder.write_all(&stored)?;
        Ok(std::mem::take(decoder.get_mut()).into())
    }

    /// The last bytes of the file.
    ///
    /// # Errors
    /// When the stored bytes end too early.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        match std::mem::replace(self, Self::Plain) {
            Self::Announced | Self::Plain => Ok(Bytes::new()),
            Self::Compressed(decoder) => decoder.finish().map(Bytes::from),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn compressed(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn decoded(content_encoding: &str, stored: &[u8], piece: usize) -> io::Result<Vec<u8>> {
        let mut decoder = Decoder::new(content_encoding);
        let mut file = Vec::new();
        for piece in stored.chunks(piece) {
            file.extend_from_slice(&decoder.decode(Bytes::copy_from_slice(piece))?);
        }
        file.extend_from_slice(&decoder.finish()?);
        Ok(file)
    }

    #[test]
    fn what_is_stored_compressed_is_read_as_the_file() {
        let file: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let stored = compressed(&file);
        for piece in [1, 1000, stored.len()] {
            assert!(decoded(GZIP, &stored, piece).unwrap() == file, "in pieces of {piece}");
        }
        let two = [compressed(b"first,"), compressed(b"second")].concat();
        assert_eq!(decoded(GZIP, &two, 7).unwrap(), b"first,second");
        assert_eq!(decoded(GZIP, &compressed(b""), 7).unwrap(), b"");
        assert!(decoded("", &stored, 1000).unwrap() == stored, "a file that is compressed itself stays as it is");
        assert_eq!(decoded(GZIP, b"{\"plain\": 1}", 5).unwrap(), b"{\"plain\": 1}");
        assert_eq!(decoded(GZIP, b"", 5).unwrap(), b"");
        assert!(decoded(GZIP, &stored[..stored.len() - 9], 1000).is_err(), "its end is missing");
        let mut broken = stored;
        broken[1000] ^= 1;
        assert!(decoded(GZIP, &broken, 1000).is_err());
    }
}
