//! From the texts of an input to a checked book.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

use super::{
    book::{Book, Broken, OnError},
    csv,
    json::{self, Node, Value},
    market::Market,
    parameters::{
        AMOUNT_MAX, Correlation, Measure, PATHS_MAX, RATE_MAX, SCHEMA, Sampling, TRADES_MAX, Underlying, VOLATILITY_MAX,
    },
    problem::{Lines, Problem, Problems},
    reader::Fields,
    trade,
};

/// Name of the market data, among a session's common data and in errors.
pub const MARKET: &str = "market.json";

/// How an input is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A book as a JSON object.
    Json,
    /// A table of trades.
    Csv,
}

/// Underlyings by name. `None` marks one that could not be read: its name still counts as known, so that trades on it
/// are not blamed too.
type Underlyings = Vec<(String, Option<Underlying>)>;

/// Everything of a book but its trades; what is absent may stand elsewhere.
#[derive(Clone, Debug, Default)]
struct Settings {
    seed: Option<u64>,
    paths: Option<u64>,
    sampling: Option<Sampling>,
    measures: Option<Vec<Measure>>,
    on_error: Option<OnError>,
    market: Option<(Underlyings, Vec<Correlation>)>,
}

/// Reads a book from an input and the market data beside it, if there is any.
///
/// # Errors
/// What is wrong with the texts, in their order, each with line, column and field.
pub fn parse(input: &[u8], format: Format, market: Option<&[u8]>) -> Result<Book, Vec<Problem>> {
    parse_parts(input, format, market, &(0..usize::MAX), usize::MAX)?.swap_remove(0)
}

/// Reads these rows of a table, counted from 0, and the market data beside it. What is wrong with them is what would be
/// wrong in the whole table, also an id that a row before them has, and has the line of the table.
///
/// # Errors
/// As [`parse`].
pub fn parse_rows(table: &[u8], rows: &Range<usize>, market: Option<&[u8]>) -> Result<Book, Vec<Problem>> {
    parse_parts(table, Format::Csv, market, rows, usize::MAX)?.swap_remove(0)
}

/// As [`parse_rows`], but with a book for each `step` of the rows, at least one.
///
/// # Errors
/// What is wrong with the table itself or its market; what is wrong with rows is an error of their book only.
pub fn parse_items(
    table: &[u8],
    rows: &Range<usize>,
    step: usize,
    market: Option<&[u8]>,
) -> Result<Vec<Result<Book, Vec<Problem>>>, Vec<Problem>> {
    parse_parts(table, Format::Csv, market, rows, step)
}

/// Checks as much of a table as is known without its market data: its columns, and that no id is there twice.
///
/// # Errors
/// What is wrong with it, as [`parse`].
pub fn check_ids(table: &[u8]) -> Result<(), Vec<Problem>> {
    let text = decode(table)?;
    let (mut problems, mut ids) = (Problems::default(), HashMap::new());
    csv::each_row(&text, usize::MAX, &mut problems, |position, row, problems| {
        claim(&row, position, &mut ids, problems)
    });
    if problems.is_empty() { Ok(()) } else { Err(problems.in_order(&Lines::new(&text))) }
}

/// A book for each `step` of the wanted rows, at least one.
fn parse_parts(
    input: &[u8],
    format: Format,
    market: Option<&[u8]>,
    wanted: &Range<usize>,
    step: usize,
) -> Result<Vec<Result<Book, Vec<Problem>>>, Vec<Problem>> {
    let alone = market.is_none();
    let from_market = match market {
        Some(bytes) => parse_market(bytes, format == Format::Csv).map_err(|mut problems| {
            problems.iter_mut().for_each(|problem| problem.source = MARKET);
            problems
        })?,
        None => Settings::default(),
    };
    let text = decode(input)?;
    let text = text.as_ref();
    let lines = Lines::new(text);
    let mut problems = Problems::default();
    match format {
        Format::Csv if alone => {
            let message = "a table of trades needs market data beside it, see the session's common data".to_owned();
            problems.add(0, String::new(), message);
            Err(problems.in_order(&lines))
        }
        Format::Csv => {
            let rows = csv::parse(text, wanted, TRADES_MAX, &mut problems);
            let ids = ids_before(text, &rows, wanted.start);
            Ok(assemble(from_market, rows, ids, wanted, step, &lines, &problems))
        }
        Format::Json => {
            let root = json::parse(text).map_err(|error| vec![Problem::syntax(text, error)])?;
            let Some((own, rows)) = read_book(&root, &from_market, &mut problems) else {
                return Err(problems.in_order(&lines));
            };
            let merged = Settings {
                seed: own.seed.or(from_market.seed),
                paths: own.paths.or(from_market.paths),
                sampling: own.sampling.or(from_market.sampling),
                measures: own.measures.or(from_market.measures),
                on_error: own.on_error.or(from_market.on_error),
                market: own.market.or(from_market.market),
            };
            Ok(assemble(merged, rows, HashMap::new(), wanted, step, &lines, &problems))
        }
    }
}

/// The text of some bytes: UTF-8, or UTF-16 that begins with a mark of its byte order.
fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Vec<Problem>> {
    let (text, rest) = readable(bytes);
    if rest {
        let encoding = if utf_16(bytes).is_some() { "UTF-16" } else { "UTF-8" };
        let message = format!("this byte is not {encoding} text");
        return Err(vec![Problem::new(&text, text.len(), String::new(), message)]);
    }
    Ok(text)
}

/// The text that some bytes begin with, and whether there are more bytes, which are none.
pub fn readable(bytes: &[u8]) -> (Cow<'_, str>, bool) {
    if let Some((units, rest)) = utf_16(bytes) {
        let mut text = String::new();
        for character in char::decode_utf16(units) {
            let Ok(character) = character else { return (Cow::Owned(text), true) };
            text.push(character);
        }
        return (Cow::Owned(text), rest);
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let valid = bytes.utf8_chunks().next().map(|chunk| chunk.valid()).unwrap_or_default();
    (Cow::Borrowed(valid), valid.len() < bytes.len())
}

/// Which byte of a unit of UTF-16 text comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    /// The bytes of a unit.
    pub(crate) fn bytes(self) -> fn(u16) -> [u8; 2] {
        match self {
            Self::Little => u16::to_le_bytes,
            Self::Big => u16::to_be_bytes,
        }
    }
}

/// The byte order of text that begins with the mark of UTF-16.
pub(crate) fn byte_order(bytes: &[u8]) -> Option<ByteOrder> {
    match bytes.first_chunk::<2>()? {
        [0xFF, 0xFE] => Some(ByteOrder::Little),
        [0xFE, 0xFF] => Some(ByteOrder::Big),
        _ => None,
    }
}

/// The units of UTF-16 text, and whether half of one is left, if the bytes begin as such text does.
fn utf_16(bytes: &[u8]) -> Option<(impl Iterator<Item = u16> + '_, bool)> {
    let units = bytes.get(2..)?;
    let read: fn([u8; 2]) -> u16 = match byte_order(bytes)? {
        ByteOrder::Little => u16::from_le_bytes,
        ByteOrder::Big => u16::from_be_bytes,
    };
    Some((units.chunks_exact(2).map(move |unit| read([unit[0], unit[1]])), units.len() % 2 == 1))
}

/// Reads market data; `whole` when nothing else can say what it lacks.
fn parse_market(bytes: &[u8], whole: bool) -> Result<Settings, Vec<Problem>> {
    let text = decode(bytes)?;
    let text = text.as_ref();
    let root = json::parse(text).map_err(|error| vec![Problem::syntax(text, error)])?;
    let mut problems = Problems::default();
    let settings = Fields::new(&root, String::new(), &mut problems).and_then(|mut fields| {
        let settings = read_settings(&mut fields, |_| whole)?;
        fields.finish();
        Some(settings)
    });
    match settings {
        Some(settings) if problems.is_empty() => Ok(settings),
        _ => Err(problems.in_order(&Lines::new(text))),
    }
}

fn read_book<'n>(
    root: &'n Node<'n>,
    market: &Settings,
    problems: &mut Problems,
) -> Option<(Settings, Vec<csv::Row<'n>>)> {
    let mut fields = Fields::new(root, String::new(), problems)?;
    let settings = read_settings(&mut fields, |name| match name {
        "seed" => market.seed.is_none(),
        "paths" => market.paths.is_none(),
        _ => market.market.is_none(),
    })?;
    let items = fields.list("trades", TRADES_MAX);
    if items.as_ref().is_some_and(Vec::is_empty) {
        fields.reject("trades", "expected at least one trade".to_owned());
    }
    fields.finish();
    Some((settings, items.unwrap_or_default().into_iter().map(|item| Ok(item.node.clone())).collect()))
}

/// Reads settings and market data, of which `needed` must be there.
fn read_settings(fields: &mut Fields<'_, '_>, needed: impl Fn(&str) -> bool) -> Option<Settings> {
    let schema = fields.integer("schema", 1, u64::MAX);
    if schema.is_some_and(|schema| schema != SCHEMA) {
        // Another schema may mean anything by its fields, so nothing else is looked at.
        fields.reject("schema", format!("expected {SCHEMA}, the schema version that this engine reads"));
        return None;
    }
    fields.optional_text("description");
    fields.optional_choice("day_count", &[("ACT/365F", ())]);
    let mut integer = |name, least, most| {
        if needed(name) { fields.integer(name, least, most) } else { fields.optional_integer(name, least, most) }
    };
    let seed = integer("seed", 0, u64::MAX);
    let paths = integer("paths", 1, PATHS_MAX);
    let sampling = fields.optional_choice("sampling", &Sampling::WORDS);
    let measures = read_measures(fields);
    let on_error = fields.optional_choice("on_error", &OnError::WORDS);
    let market = if needed("underlyings") || fields.has("underlyings") {
        read_underlyings(fields).and_then(|underlyings| {
            let names = names(&underlyings);
            let correlation = read_correlation(fields, &names)?;
            Some((underlyings, correlation))
        })
    } else {
        if fields.has("correlation") {
            fields.reject("correlation", "expected the underlyings in the same object".to_owned());
        }
        fields.may_have::<()>("underlyings").or_else(|| fields.may_have("correlation"));
        None
    };
    Some(Settings { seed, paths, sampling, measures, on_error, market })
}

fn read_measures(fields: &mut Fields<'_, '_>) -> Option<Vec<Measure>> {
    let list = fields.optional_list("measures", 16)??;
    // The price is always computed.
    let words = std::iter::once(("price", None)).chain(Measure::ALL.map(|measure| (measure.name(), Some(measure))));
    let words: Vec<(&str, Option<Measure>)> = words.collect();
    let mut measures = Vec::new();
    for item in list {
        measures.extend(fields.choice_of(&item, &words)?);
    }
    measures.sort_unstable();
    measures.dedup();
    Some(measures)
}

fn read_underlyings(fields: &mut Fields<'_, '_>) -> Option<Underlyings> {
    let entries = fields.map("underlyings", TRADES_MAX)?;
    let mut underlyings = Vec::with_capacity(entries.len());
    for (name, item) in entries {
        let read = fields.nested(&item, |fields| {
            let spot = fields.positive("spot", AMOUNT_MAX);
            let volatility = fields.number_between("volatility", 0.0, VOLATILITY_MAX);
            let rate = fields.number_between("rate", -RATE_MAX, RATE_MAX);
            let dividend_yield = fields.optional_number_between("dividend_yield", -RATE_MAX, RATE_MAX, 0.0);
            fields.finish();
            Some(Underlying { spot: spot?, volatility: volatility?, rate: rate?, dividend_yield: dividend_yield? })
        });
        underlyings.push((name, read));
    }
    Some(underlyings)
}

fn names(underlyings: &Underlyings) -> HashMap<String, usize> {
    underlyings.iter().enumerate().map(|(number, (name, _))| (name.clone(), number)).collect()
}

fn read_correlation(fields: &mut Fields<'_, '_>, names: &HashMap<String, usize>) -> Option<Vec<Correlation>> {
    let Some(items) = fields.optional_list("correlation", TRADES_MAX)? else { return Some(Vec::new()) };
    let mut pairs = HashMap::new();
    let read: Vec<Option<Correlation>> = items
        .into_iter()
        .enumerate()
        .map(|(number, item)| {
            fields.nested(&item, |fields| {
                let between = fields.list("between", 2).and_then(|pair| {
                    if let [first, second] = &pair[..] {
                        Some([fields.known(first, names)?, fields.known(second, names)?])
                    } else {
                        fields.reject("between", "expected two names of underlyings".to_owned());
                        None
                    }
                });
                let value = fields.number_between("value", -1.0, 1.0);
                fields.finish();
                let between = between?;
                if between[0] == between[1] {
                    fields.reject("between", "expected two different underlyings".to_owned());
                }
                if let Some(first) = pairs.insert((between[0].min(between[1]), between[0].max(between[1])), number) {
                    fields.reject("between", format!("this pair is that of correlation[{first}] already"));
                }
                Some(Correlation { between, value: value? })
            })
        })
        .collect();
    read.into_iter().collect()
}

/// Takes the id of a trade, without reading the rest of it.
fn claim(row: &csv::Row<'_>, position: usize, ids: &mut HashMap<String, usize>, problems: &mut Problems) {
    if let Ok(node) = row
        && let Some(mut fields) = Fields::new(node, format!("trades[{position}]"), problems)
    {
        trade::read_id(&mut fields, position, ids);
    }
}

/// Those ids of these rows that rows before the one at `end` have, with the first that has it. No other ids are kept,
/// because a table may be much larger than the rows that are read.
fn ids_before(text: &str, rows: &[csv::Row<'_>], end: usize) -> HashMap<String, usize> {
    let wanted: HashSet<&str> = rows.iter().filter_map(said_id).collect();
    let mut ids = HashMap::new();
    if !wanted.is_empty() {
        csv::each_row(text, end, &mut Problems::default(), |position, row, _| {
            if said_id(&row).is_some_and(|id| wanted.contains(id)) {
                claim(&row, position, &mut ids, &mut Problems::default());
            }
        });
    }
    ids
}

/// Reads the trades, and puts a book together for each `step` of the wanted rows. `ids` are those of other rows, and
/// `beforehand` is what was wrong before any trade was read.
fn assemble(
    settings: Settings,
    rows: Vec<csv::Row<'_>>,
    mut ids: HashMap<String, usize>,
    wanted: &Range<usize>,
    step: usize,
    lines: &Lines<'_>,
    beforehand: &Problems,
) -> Vec<Result<Book, Vec<Problem>>> {
    let Settings { seed, paths, sampling, measures, on_error, market } = settings;
    let (underlyings, correlation) = market.unwrap_or_default();
    let (sampling, measures) = (sampling.unwrap_or_default(), measures.unwrap_or_default());
    let on_error = on_error.unwrap_or_default();
    let names = names(&underlyings);
    let mut market = Market::new(&names, &underlyings, &correlation, sampling, &measures);
    let known: Option<Arc<[(String, Underlying)]>> =
        underlyings.iter().map(|(name, read)| Some((name.clone(), (*read)?))).collect();
    let correlation: Arc<[Correlation]> = correlation.clone().into();
    let mut read_book = |from: usize| {
        let mut problems = beforehand.clone();
        if rows.len() <= from && problems.is_empty() {
            problems.add(0, "trades".to_owned(), "expected at least one trade".to_owned());
        }
        let (mut trades, mut broken) = (Vec::new(), Vec::new());
        for (number, row) in rows.iter().enumerate().take(from.saturating_add(step)).skip(from) {
            let position = wanted.start + number;
            if problems.is_full() {
                claim(row, position, &mut ids, &mut Problems::default());
                continue;
            }
            let mut own = Problems::default();
            let path = format!("trades[{position}]");
            match row {
                Ok(node) => trades.extend(trade::read(node, path, position, &mut ids, &mut market, &mut own)),
                Err((at, message)) => own.add(*at, path, message.clone()),
            }
            if own.is_empty() {
                continue;
            }
            if on_error == OnError::Fail {
                problems.extend(own);
                continue;
            }
            let wrong: Vec<String> = own.in_order(lines).iter().map(ToString::to_string).collect();
            trades.pop_if(|trade| trade.position == position);
            broken.push(Broken { position, id: id(row, position, &ids), error: wrong.join("; ") });
        }
        let (measures, correlation) = (measures.clone(), correlation.clone());
        match (seed, paths, known.clone()) {
            (Some(seed), Some(paths), Some(underlyings)) if problems.is_empty() => {
                Ok(Book { seed, paths, sampling, measures, on_error, underlyings, correlation, trades, broken })
            }
            _ => Err(problems.in_order(lines)),
        }
    };
    let books = wanted.len().div_ceil(step).max(1);
    (0..books).map(|book| read_book(book.saturating_mul(step))).collect()
}

/// The id of a trade that is wrong, or what stands for it.
fn id(row: &csv::Row<'_>, position: usize, ids: &HashMap<String, usize>) -> String {
    match said_id(row) {
        // Not the id of another trade.
        Some(id) if ids.get(id) == Some(&position) => id.to_owned(),
        _ => format!("trades[{position}]"),
    }
}

/// The id that a row has, right or wrong.
fn said_id<'r>(row: &'r csv::Row<'_>) -> Option<&'r str> {
    let Ok(Node { value: Value::Map(members), .. }) = row else { return None };
    match &members.iter().find(|member| member.key == "id")?.node.value {
        Value::Text(id) => Some(id),
        _ => None,
    }
}
