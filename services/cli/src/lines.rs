//! Counts the lines of a file, which are the items of a pack.

use std::{
    fs,
    io::{BufRead, BufReader},
};

use anyhow::Context as _;
use contract::pack::ITEMS_MAX;
use sessions::submit::{Input, Source};

use crate::{error::Failure, text};

/// The number of lines of an input.
///
/// # Errors
/// When it cannot be read, or has no line, or too many.
pub(crate) fn count(input: &Input) -> anyhow::Result<u32> {
    let count = match &input.source {
        Source::File(path) => {
            let context = || format!("read {}", path.display());
            lines(BufReader::new(fs::File::open(path).with_context(context)?)).with_context(context)?
        }
        Source::Bytes(bytes) => lines(&**bytes)?,
    };
    match u32::try_from(count) {
        Ok(0) => {
            Err(Failure::new("nothing-to-submit", format!("{} has no lines", input.job)).why("it is empty").into())
        }
        Ok(count) if count <= ITEMS_MAX => Ok(count),
        _ => Err(Failure::usage(format!("{} has {}", input.job, text::count(count, "line")))
            .why(format!("a pack has at most {ITEMS_MAX} items, one for each line"))
            .next("divide it into several files")
            .into()),
    }
}

/// The number of lines, of which the last may be without its end.
fn lines(mut reader: impl BufRead) -> std::io::Result<usize> {
    let (mut count, mut is_open) = (0, false);
    loop {
        let bytes = reader.fill_buf()?;
        let Some(last) = bytes.last() else { return Ok(count + usize::from(is_open)) };
        is_open = *last != b'\n';
        count += bytes.iter().filter(|byte| **byte == b'\n').count();
        let read = bytes.len();
        reader.consume(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_whatever_their_bytes_are() {
        for (bytes, expected) in [
            (&b""[..], 0),
            (b"\n", 1),
            (b"a", 1),
            (b"a\n", 1),
            (b"a\n\nb", 3),
            (b"a\r\nb\r\n", 2),
            (b"\xff\x00\n\xfe", 2),
        ] {
            assert_eq!(lines(bytes).unwrap(), expected, "{bytes:?}");
            // However the bytes come.
            assert_eq!(lines(BufReader::with_capacity(1, bytes)).unwrap(), expected, "{bytes:?}");
        }
    }

    #[test]
    fn an_empty_file_is_nothing_to_submit() {
        let input = |bytes: &'static [u8]| Input {
            job: "a.ndjson".into(),
            source: Source::Bytes(bytes.into()),
            content_type: String::new(),
        };
        assert_eq!(count(&input(b"{}\n{}\n")).unwrap(), 2);
        assert_eq!(count(&input(b"")).unwrap_err().downcast::<Failure>().unwrap().code, "nothing-to-submit");
    }
}
