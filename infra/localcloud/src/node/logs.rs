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
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// Longest line kept in one record, in bytes, as containerd's `max_container_log_line_size`.
pub const LINE: usize = 16 * 1024;
/// Tag of a record that more of its line follows; see the CRI's `LogTagPartial`.
const PARTIAL: &[u8] = b"P";

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
    /// And the time of its last record.
    file: Mutex<(File, Timestamp)>,
    written: watch::Sender<u64>,
    live: Arc<Mutex<HashMap<PathBuf, watch::Receiver<u64>>>>,
}

/// What of a log is desired.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    /// Go on until the container ends.
    pub follow: bool,
    /// Only the last records: lines, or parts of long ones.
    pub tail: Option<usize>,
    /// At most so many bytes.
    pub limit: Option<usize>,
    /// Only records from then on.
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
        let inner =
            Inner { path: path.to_owned(), file: Mutex::new((file, Timestamp::MIN)), written, live: self.live.clone() };
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
    /// Adds what a stream (`stdout`, `stderr`) wrote, in records of whole lines and of parts; returns how many bytes of
    /// it are in records now. A line that is not long and has no line feed yet is only written when the stream `ends`.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, now: Timestamp, stream: &str, output: &[u8], ends: bool) -> io::Result<usize> {
        let mut buffer = Vec::new();
        let mut rest = output;
        let mut file = self.inner.file.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let line = rest.iter().position(|byte| *byte == b'\n');
            let length = line.unwrap_or(rest.len());
            let (text, tag, after) = match line {
                _ if length > LINE => (LINE, PARTIAL, LINE),
                Some(end) => (end, b"F".as_slice(), end + 1),
                None if ends && length > 0 => (length, b"F".as_slice(), length),
                None => break,
            };
            // As on a node, no two records have the same time.
            file.1 = now.max(file.1.checked_add(SignedDuration::from_nanos(1)).unwrap_or(now));
            let _ = write!(buffer, "{:.9} {stream} ", file.1);
            buffer.extend_from_slice(&[tag, b" ", &rest[..text], b"\n"].concat());
            rest = &rest[after..];
        }
        file.0.write_all(&buffer)?;
        drop(file);
        self.inner.written.send_modify(|written| *written += buffer.len() as u64);
        Ok(output.len() - rest.len())
    }
}

/// The records of a log that are desired, as a kubelet gives them; nothing when there is no such log.
///
/// A line in parts comes whole: a part has no line feed. `tail` and `since` count and compare the records, which may be
/// parts, and only what starts a line has its time before it
/// (<https://github.com/kubernetes/kubernetes/blob/master/staging/src/k8s.io/cri-client/pkg/logs/logs.go>).
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
        let mut starts_line = true;
        let mut first = true;
        loop {
            if let Some(live) = &mut live {
                live.borrow_and_update();
            }
            loop {
                let records = match batch(&mut reader) {
                    Ok(records) if records.is_empty() => break,
                    Ok(records) => records,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                };
                if let Some(tail) = reading.tail.filter(|_| first) {
                    kept.extend(records);
                    while kept.len() > tail {
                        kept.pop_front();
                    }
                } else if let Some(bytes) = cut(render(records, &reading, &mut starts_line), &mut left) {
                    yield Ok(bytes);
                }
            }
            if let Some(bytes) = cut(render(std::mem::take(&mut kept), &reading, &mut starts_line), &mut left) {
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

/// The last records of a log, without their times: at most so many records and bytes.
pub fn tail(path: &Path, records: usize, bytes: usize) -> String {
    let Ok(file) = File::open(path) else { return String::new() };
    let mut reader = BufReader::new(file);
    let mut kept: VecDeque<Record> = VecDeque::new();
    while let Ok(more) = batch(&mut reader)
        && !more.is_empty()
    {
        kept.extend(more);
        while kept.len() > records {
            kept.pop_front();
        }
    }
    let all: Vec<u8> = kept.into_iter().flat_map(|record| record.text).collect();
    String::from_utf8_lossy(&all[all.len().saturating_sub(bytes)..]).into_owned()
}

/// A record of the log: a line, or a part of one.
struct Record {
    time: Vec<u8>,
    /// With its line feed, unless more of the line follows.
    text: Vec<u8>,
}

/// Reads some records; none at the end of the file.
fn batch(reader: &mut BufReader<File>) -> io::Result<Vec<Record>> {
    const RECORDS: usize = 512;
    let mut records = Vec::new();
    while records.len() < RECORDS {
        let mut record = Vec::new();
        reader.read_until(b'\n', &mut record)?;
        if !record.ends_with(b"\n") {
            // It is being written, and read once more.
            reader.seek_relative(-i64::try_from(record.len()).unwrap_or_default())?;
            break;
        }
        let mut parts = record.splitn(4, |byte| *byte == b' ');
        let (time, _stream, tag, text) = (parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(time), Some(tag), Some(text)) = (time, tag, text) else { continue };
        let text = if tag == PARTIAL { text.strip_suffix(b"\n").unwrap_or(text) } else { text };
        records.push(Record { time: time.to_vec(), text: text.to_vec() });
    }
    Ok(records)
}

/// The records as they are shown.
fn render(records: impl IntoIterator<Item = Record>, reading: &Reading, starts_line: &mut bool) -> Vec<u8> {
    let mut shown = Vec::new();
    for Record { time, text } in records {
        let at = std::str::from_utf8(&time).ok().and_then(|time| time.parse::<Timestamp>().ok());
        if reading.since.is_none_or(|since| at.is_none_or(|at| at >= since)) {
            if reading.timestamps && *starts_line {
                shown.extend_from_slice(&time);
                shown.push(b' ');
            }
            shown.extend_from_slice(&text);
        }
        *starts_line = text.last().is_none_or(|last| *last == b'\n');
    }
    shown
}

fn cut(mut bytes: Vec<u8>, left: &mut usize) -> Option<Bytes> {
    bytes.truncate(*left);
    *left -= bytes.len();
    (!bytes.is_empty()).then(|| Bytes::from(bytes))
}
