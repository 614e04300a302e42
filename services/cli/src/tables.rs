//! Checks a table before it is submitted, as the engine will, and counts the items that its rows are, or the lines of
//! another file, or the files of an archive.

use std::{
    fs,
    io::{BufReader, Read},
    path::Path,
};

use anyhow::Context as _;
use contract::{
    config::Business,
    pack::{self, ITEMS_MAX, Pack},
};
use kernel::pricing::{parameters::TRADES_MAX, problem::Problem, read};
use sessions::submit::{Input, Source};

use crate::{error::Failure, inputs::STDIN, text};

/// Problems, and rows with an error, that a message lists.
const LISTED: usize = 10;

/// A table that can be submitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Checked {
    /// How many items it has.
    pub(crate) items: u32,
    /// The rows that will have an error in the result; empty when the business has a program of its own.
    pub(crate) row_errors: Vec<String>,
}

/// Reads a table and the market data among the common data.
///
/// # Errors
/// When the engine would refuse it, whole or split, or it has no rows or too many.
pub(crate) fn check(
    input: &Input,
    rows_per_item: u32,
    business: &Business,
    common: &[Input],
) -> anyhow::Result<Checked> {
    let (bytes, name) = pack_bytes(&input.source)?;
    let rows = kernel::table::rows(&bytes);
    let items = Pack::items_for(rows, rows_per_item).ok_or_else(|| {
        Failure::usage(format!("{rows} rows make more than {ITEMS_MAX} items"))
            .next(format!("--rows-per-item {} or more", rows.div_ceil(ITEMS_MAX as usize)))
    })?;
    let row_errors =
        if business.engine.command.is_empty() { price_check(&bytes, &name, rows, common)? } else { Vec::new() };
    if items == 0 {
        return Err(Failure::new("nothing-to-submit", format!("the table {name} has no rows"))
            .why("it has only a header")
            .into());
    }
    if rows.min(rows_per_item as usize) > TRADES_MAX && business.engine.command.is_empty() {
        return Err(Failure::usage(format!("an item prices at most {TRADES_MAX} rows"))
            .next(format!("--rows-per-item {TRADES_MAX} or less"))
            .into());
    }
    Ok(Checked { items, row_errors })
}

/// The number of lines of an input, each of which is an item.
///
/// # Errors
/// When it cannot be read, has no line or too many, or the engine would only echo its lines.
pub(crate) fn lines(input: &Input, business: &Business) -> anyhow::Result<u32> {
    let (bytes, name) = pack_bytes(&input.source)?;
    let refused = |why| Failure::usage(format!("{name} cannot be divided into lines")).why(why);
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let why = "it is UTF-16 text, in which the byte of a line break is half a character";
        return Err(refused(why).next("convert it to UTF-8, and submit it again").into());
    }
    if business.engine.command.is_empty() && kernel::is_table(&bytes) {
        let why = "it is a table of trades, and its rows say nothing without its header";
        return Err(refused(why).next("submit it with --table").into());
    }
    let lines = pack::lines(&bytes).count();
    match Pack::items_for(lines, 1) {
        Some(0) => Err(Failure::new("nothing-to-submit", format!("{name} has no lines")).why("it is empty").into()),
        Some(items) => Ok(items),
        None => Err(Failure::usage(format!("{lines} lines make more than {ITEMS_MAX} items"))
            .next("divide the file into several")
            .into()),
    }
}

/// Whether an input, which is at this path, is an archive: by the path, or by what tar writes at the beginning.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn is_archive(path: &Path, input: &Input) -> anyhow::Result<bool> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let mut head = Vec::new();
    reader(&input.source)?.take(512).read_to_end(&mut head).with_context(|| format!("read {}", path.display()))?;
    Ok(name.ends_with(".tar") || name.contains(".tar.") || head.get(257..262) == Some(b"ustar"))
}

/// The number of files of an archive, each of which is an item.
///
/// # Errors
/// When it cannot be read, or cannot be a pack.
pub(crate) fn files(input: &Input) -> anyhow::Result<u32> {
    let mut files = 0;
    let refused = |why: String| {
        let (what, next) = ("this archive cannot be a pack of files", "make an archive of regular files with tar");
        Failure::new("malformed-archive", what).on(name(&input.source)).why(format!("the archive {why}")).next(next)
    };
    pack::files::read(reader(&input.source)?, false, |_| files += 1).map_err(refused)?;
    Ok(files)
}

/// The rows that will have an error, of a table that the kernel can price.
fn price_check(table: &[u8], name: &str, rows: usize, common: &[Input]) -> anyhow::Result<Vec<String>> {
    let refused = |why: Vec<String>| {
        Failure::new("malformed-table", format!("{name} cannot be priced"))
            .why(why.join("\n"))
            .next("correct it and submit it again; nothing was uploaded")
    };
    if rows == 0 {
        read::check_ids(table).map_err(|problems| refused(listed(&problems)))?;
    }
    let market = kernel::market(common.iter().map(|input| input.job.as_str()))
        .map_err(|refusal| refused(vec![refusal.message]))?;
    let market = common.iter().find(|input| Some(input.job.as_str()) == market);
    let market = market.map(|input| bytes(&input.source)).transpose()?.map(|(bytes, _)| bytes);
    let mut row_errors = Vec::new();
    // The engine reads as many rows at once.
    for start in (0..rows).step_by(TRADES_MAX) {
        let book = read::parse_rows(table, &(start..start + TRADES_MAX), market.as_deref())
            .map_err(|problems| refused(listed(&problems)))?;
        row_errors.extend(book.broken.into_iter().map(|broken| format!("{}: {}", broken.id, broken.error)));
    }
    Ok(row_errors)
}

fn listed(problems: &[Problem]) -> Vec<String> {
    let mut lines: Vec<String> = problems.iter().take(LISTED).map(ToString::to_string).collect();
    if problems.len() > LISTED {
        lines.push(format!("and {} more", problems.len() - LISTED));
    }
    lines
}

/// The warning that rows will have an error.
pub(crate) fn warning(row_errors: &[String]) -> Option<String> {
    let first = text::some(row_errors.iter().map(String::as_str), LISTED);
    let count = text::count(row_errors.len(), "row");
    (!row_errors.is_empty()).then(|| format!("{count} will not be priced: {first}"))
}

/// The bytes of a pack, and its name.
fn pack_bytes(source: &Source) -> anyhow::Result<(Vec<u8>, String)> {
    let (bytes, name) = bytes(source)?;
    if pack::is_compressed(&bytes) {
        return Err(Failure::usage(format!("{name} cannot be divided into items")).why(pack::COMPRESSED).into());
    }
    Ok((bytes, name))
}

fn bytes(source: &Source) -> anyhow::Result<(Vec<u8>, String)> {
    let (mut bytes, name) = (Vec::new(), name(source));
    reader(source)?.read_to_end(&mut bytes).with_context(|| format!("read {name}"))?;
    Ok((bytes, name))
}

fn reader(source: &Source) -> anyhow::Result<Box<dyn Read + '_>> {
    Ok(match source {
        Source::File(path) => {
            Box::new(BufReader::new(fs::File::open(path).with_context(|| format!("open {}", path.display()))?))
        }
        Source::Bytes(bytes) => Box::new(&bytes[..]),
    })
}

fn name(source: &Source) -> String {
    match source {
        Source::File(path) => path.display().to_string(),
        Source::Bytes(_) => STDIN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKET: &str = r#"{"schema": 1, "seed": 1, "paths": 10, "on_error": "fail",
        "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0}}}"#;
    const TABLE: &str = "id,kind,option,underlying,strike,maturity\na,european,call,A,100,1\nb,european,put,A,100,1\n";

    fn input(job: &str, bytes: &[u8]) -> Input {
        Input { job: job.to_owned(), source: Source::Bytes(bytes.to_vec().into()), content_type: String::new() }
    }

    /// Checks a table of which each item has one row.
    fn check_table(table: &[u8], market: &str) -> Result<Checked, Failure> {
        let (table, common) = (input("t.txt", table), [input("market.json", market.as_bytes())]);
        check(&table, 1, &contract::testing::business("bu1"), &common).map_err(|error| error.downcast().unwrap())
    }

    #[track_caller]
    fn check_refused(table: &str, expected: &str) {
        let failure = check_table(table.as_bytes(), MARKET).unwrap_err();
        assert_eq!(failure.code, "malformed-table");
        let why = failure.why.unwrap();
        assert!(why.starts_with(expected), "{why}");
    }

    #[test]
    fn a_table_is_refused_as_a_whole_with_its_lines() {
        check_refused(
            &TABLE.replace("\nb", "\na"),
            "line 3, column 1: trades[1].id: \"a\" is the id of trades[0] already",
        );
        check_refused(
            &TABLE.replace("\nb", "\nportfolio"),
            "line 3, column 1: trades[1].id: \"portfolio\" is the name",
        );
        check_refused(&TABLE.replace("put,A,100", "put,A,NaN"), "line 3, column 18: trades[1].strike: ");
        check_refused("engine payload 1", "line 1, column 1: engine payload 1: unknown column");
        let compressed = check_table(b"\x1f\x8b\x08", MARKET).unwrap_err();
        assert_eq!((compressed.code, compressed.why.as_deref()), ("usage", Some(pack::COMPRESSED)));
        check_refused("a,b\n1,2\n", "line 1, column 1: a: unknown column");
        let alone = check(&input("t.csv", TABLE.as_bytes()), 1, &contract::testing::business("bu1"), &[]).unwrap_err();
        assert!(alone.downcast::<Failure>().unwrap().why.unwrap().contains("needs market data"));
        assert_eq!(
            check_table(TABLE.lines().next().unwrap().as_bytes(), MARKET).unwrap_err().code,
            "nothing-to-submit"
        );
    }

    #[test]
    fn a_row_with_an_error_has_the_line_of_the_table() {
        let table = TABLE.replace("put,A,100", "put,A,NaN") + "c,european,call,NONE,100,1\n";
        let Checked { items, row_errors } = check_table(table.as_bytes(), &MARKET.replace("fail", "row")).unwrap();
        assert_eq!((items, row_errors.len()), (3, 2));
        assert!(row_errors[0].starts_with("b: line 3, column 18: "), "{row_errors:?}");
        assert!(row_errors[1].starts_with("c: line 4, column 17: "), "{row_errors:?}");
        assert!(warning(&row_errors).unwrap().starts_with("2 rows will not be priced: b: line 3"));
        assert_eq!(warning(&[]), None);
    }

    #[test]
    fn a_table_is_read_whoever_wrote_it() {
        let spaced = TABLE.replace("id,kind", "ID, Kind ").replace("maturity", "Maturity");
        let utf_16: Vec<u8> = std::iter::once(0xFEFF).chain(TABLE.encode_utf16()).flat_map(u16::to_le_bytes).collect();
        for table in [
            TABLE.replace('\n', "\r").into_bytes(),
            TABLE.replace(',', ";").into_bytes(),
            TABLE.replace(',', "\t").into_bytes(),
            format!("sep=;\n{}", TABLE.replace(',', ";")).into_bytes(),
            format!("\u{feff}{spaced}").into_bytes(),
            utf_16,
        ] {
            assert_eq!(check_table(&table, MARKET), Ok(Checked { items: 2, row_errors: vec![] }), "{table:?}");
        }
    }

    #[test]
    fn every_line_is_an_item_whatever_its_bytes_are() {
        let mut business = contract::testing::business("bu1");
        let check_of = |bytes: &[u8], business: &Business| {
            lines(&input("a.ndjson", bytes), business).map_err(|error| error.downcast::<Failure>().unwrap())
        };
        let check = |bytes: &[u8]| check_of(bytes, &business);
        for (bytes, expected) in
            [(&b"{}\n{}\n"[..], 2), (b"a", 1), (b"\n", 1), (b"a\n\nb", 3), (b"a\r\nb\r\n", 2), (b"\xff\x00\n\xfe", 2)]
        {
            assert_eq!(check(bytes), Ok(expected), "{bytes:?}");
        }
        assert_eq!(check(b"").unwrap_err().code, "nothing-to-submit");
        assert_eq!(check(b"\x1f\x8b\x08").unwrap_err().why.as_deref(), Some(pack::COMPRESSED));
        // What the engine would echo, line by line.
        assert!(check(b"\xff\xfe{\0}\0\n\0").unwrap_err().why.unwrap().contains("UTF-16"));
        assert_eq!(check(TABLE.as_bytes()).unwrap_err().next.as_deref(), Some("submit it with --table"));
        business.engine.command = vec!["./price".to_owned()];
        assert_eq!(check_of(TABLE.as_bytes(), &business), Ok(3));
    }

    #[test]
    fn an_archive_is_recognised_and_its_files_are_counted() {
        let mut archive = Vec::new();
        pack::files::write(&mut archive, ["a", "b"].map(|name| Ok((name.to_owned(), name)))).unwrap();
        let is = |path: &str, bytes: &[u8]| is_archive(Path::new(path), &input("x", bytes)).unwrap();
        assert!(is("a/book.tar", b"") && is("a/b.TAR", b"x") && is("a.tar.zst", b"x") && is("-", &archive));
        assert!(!is("a.tar/b.ndjson", b"{}\n") && !is("-", &[b'x'; 600]));
        let check = |bytes: &[u8]| files(&input("x", bytes)).map_err(|error| error.downcast::<Failure>().unwrap());
        assert_eq!(check(&archive), Ok(2));
        let cut = check(&archive[..1024]).unwrap_err();
        assert_eq!(cut.code, "malformed-archive");
        assert_eq!(cut.why.as_deref(), Some("the archive is cut off at \"a\"; submit a complete one"));
    }

    #[test]
    fn a_program_checks_its_table_itself() {
        let mut business = contract::testing::business("bu1");
        business.engine.command = vec!["./price".to_owned()];
        let checked = check(&input("t.csv", b"id,x\na,1\ra,2\n"), 1, &business, &[]).unwrap();
        assert_eq!(checked, Checked { items: 2, row_errors: vec![] });
    }
}
