//! The socket between `engine serve` and `engine program`, which are two containers of one pod, and its frames: the sizes
//! of a header and of bytes, the header in JSON, and the bytes. Both are the same program, so nothing else speaks this.

use std::{
    fs::File,
    io::ErrorKind,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bytes::Bytes;
use contract::config;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// File of the socket in the work folder.
const FILE: &str = "program.sock";
/// Limit of the path of a socket in bytes: Linux has 107, other systems less.
const PATH_MAX: usize = 100;

/// Asks for an item. Its input follows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Index of the item.
    pub(crate) index: u32,
    /// Number of items of the pack.
    pub(crate) count: u32,
    /// Name of its file, in a pack of files.
    pub(crate) name: Option<String>,
    /// Folder of the common data, in the work folder.
    pub(crate) common: PathBuf,
    /// Settings of the business.
    pub(crate) program: config::Program,
    /// Seconds that the item may be computed.
    pub(crate) timeout_secs: u32,
}

/// What is answered: that the item is begun, lines, and then a result or a failure.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// The item is being computed: if the container ends now, the item may be the cause.
    Begun,
    /// A line of the log.
    Line(String),
    /// The item has a result, which follows.
    Result { content_type: String, cpu_seconds: f64 },
    /// The item has none.
    Failure { permanent: bool, code: String, message: String, cpu_seconds: f64 },
}

/// The path of the socket, and the folder to keep open while it is used: on a laptop the path may be too long for a
/// socket.
///
/// # Errors
/// When the work folder cannot be opened.
pub(crate) fn path(work_dir: &Path) -> anyhow::Result<(PathBuf, Option<File>)> {
    let path = work_dir.join(FILE);
    if path.as_os_str().len() <= PATH_MAX {
        return Ok((path, None));
    }
    let folder = File::open(work_dir).with_context(|| format!("open {}", work_dir.display()))?;
    Ok((format!("/proc/self/fd/{}/{FILE}", folder.as_raw_fd()).into(), Some(folder)))
}

/// Writes a frame.
///
/// # Errors
/// When the connection is lost.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    header: &impl Serialize,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let header = serde_json::to_vec(header).context("encode a header")?;
    to.write_u32(u32::try_from(header.len())?).await?;
    to.write_u64(bytes.len() as u64).await?;
    to.write_all(&header).await?;
    to.write_all(bytes).await?;
    Ok(to.flush().await?)
}

/// Reads a frame; `None` at the end of the connection.
///
/// # Errors
/// When the connection is lost in the middle of a frame.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncRead + Unpin),
) -> anyhow::Result<Option<(T, Bytes)>> {
    let header = match from.read_u32().await {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        size => vec![0; size? as usize],
    };
    let mut bytes = vec![0; usize::try_from(from.read_u64().await?)?];
    let mut header = header;
    from.read_exact(&mut header).await?;
    from.read_exact(&mut bytes).await?;
    Ok(Some((serde_json::from_slice(&header).context("decode a header")?, bytes.into())))
}
