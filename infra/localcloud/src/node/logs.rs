//! Logs of containers: kept line by line with time and stream, as container runtimes do, and read while written.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use futures::Stream;
use jiff::Timestamp;
use tokio::sync::watch;

/// Longest line kept whole, in bytes; longer ones are split.
pub const LINE: usize = 16 * 1024;

/// The logs that are being written.
#[derive(Default)]
pub struct Logs {
    live: Arc<Mutex<HashMap<PathBuf, watch::Receiver<u64>>>>,
}

/// The writing end of one log. When the last clone goes, the log has ended.
#[derive(Clone)]
pub struct Writer {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    file: Mutex<File>,
    written: watch::Sender<u64>,
    live: Arc<Mutex<HashMap<PathBuf, watch::Receiver<u64>>>>,
}

/// What of a log is desired.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last lines.
    pub tail: Option<usize>,
    /// At most so many bytes.
    pub limit: Option<usize>,
    /// Only lines from then on.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
}

/// Where the log of one run of a container is.
pub fn path(folder: &Path, uid: &str, container: &str, run: i64) -> PathBuf {
    folder.join("pods").join(uid).join("logs").join(container).join(format!("{run}.log"))
}

impl Logs {
    /// Begins a log.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn open(&self, path: &Path) -> io::Result<Writer> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let written = watch::Sender::new(0);
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.insert(path.to_owned(), written.subscribe());
        let inner = Inner { path: path.to_owned(), file: Mutex::new(file), written, live: self.live.clone() };
        Ok(Writer { inner: Arc::new(inner) })
    }

    fn watch(&self, path: &Path) -> Option<watch::Receiver<u64>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.path);
    }
}

impl Writer {
    /// Adds whole lines of a stream (`stdout`, `stderr`), each without its line feed.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write<'a>(&self, now: Timestamp, stream: &str, lines: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
        let mut buffer = Vec::new();
        for line in lines {
            let _ = write!(buffer, "{now:.9} {stream} F ");
            buffer.extend_from_slice(line);
            buffer.push(b'\n');
        }
        self.inner.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&buffer)?;
        self.inner.written.send_modify(|written| *written += buffer.len() as u64);
        Ok(())
    }
}

/// The lines of a log that are desired; nothing when there is no such log.
pub fn read(logs: &Logs, path: PathBuf, reading: Reading) -> impl Stream<Item = io::Result<Bytes>> + use<> {
    let mut live = logs.watch(&path);
    async_stream::stream! {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => {
                yield Err(error);
                return;
            }
        };
        let mut left = reading.limit.unwrap_or(usize::MAX);
        let mut reader = BufReader::new(file);
        let mut kept = VecDeque::new();
        let mut first = true;
        loop {
            if let Some(live) = &mut live {
                live.borrow_and_update();
            }
            loop {
                let mut chunk = Vec::new();
                match batch(&mut reader, &reading, &mut chunk) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                }
                if let Some(tail) = reading.tail.filter(|_| first) {
                    kept.extend(chunk);
                    while kept.len() > tail {
                        kept.pop_front();
                    }
                } else if let Some(bytes) = cut(chunk.concat(), &mut left) {
                    yield Ok(bytes);
                }
            }
            if let Some(bytes) = cut(std::mem::take(&mut kept).into_iter().collect::<Vec<_>>().concat(), &mut left) {
                yield Ok(bytes);
            }
            first = false;
            if left == 0 || !reading.follow {
                return;
            }
            let Some(waiting) = &mut live else { return };
            if waiting.changed().await.is_err() {
                // Ended: what was written between the last read and the end is read once more.
                live = None;
            }
        }
    }
}

/// The last lines of a log, without their times: at most so many lines and bytes.
pub fn tail(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(file) = File::open(path) else { return String::new() };
    let mut reader = BufReader::new(file);
    let reading = Reading::default();
    let mut kept: VecDeque<Vec<u8>> = VecDeque::new();
    let mut chunk = Vec::new();
    while batch(&mut reader, &reading, &mut chunk).unwrap_or(false) {
        kept.extend(chunk.drain(..));
        while kept.len() > lines {
            kept.pop_front();
        }
    }
    let all: Vec<u8> = kept.into_iter().flatten().collect();
    String::from_utf8_lossy(&all[all.len().saturating_sub(bytes)..]).into_owned()
}

/// Reads some lines as they are to be shown. False at the end of the file.
fn batch(reader: &mut BufReader<File>, reading: &Reading, lines: &mut Vec<Vec<u8>>) -> io::Result<bool> {
    const LINES: usize = 512;
    for count in 0..LINES {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(count > 0);
        }
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let (time, _stream, _whole, text) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(time), Some(text)) = (time, text) else { continue };
        if let Some(since) = reading.since {
            let at = std::str::from_utf8(time).ok().and_then(|time| time.parse::<Timestamp>().ok());
            if at.is_some_and(|at| at < since) {
                continue;
            }
        }
        lines.push(if reading.timestamps { [time, b" ", text].concat() } else { text.to_vec() });
    }
    Ok(true)
}

fn cut(mut bytes: Vec<u8>, left: &mut usize) -> Option<Bytes> {
    bytes.truncate(*left);
    *left -= bytes.len();
    (!bytes.is_empty()).then(|| Bytes::from(bytes))
}
