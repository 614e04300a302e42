//! Computes inputs of a session once more with the built-in kernel, from local copies, and compares the results bit for
//! bit.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use bytes::Bytes;
use cloud::{outcomes, storage::Store};
use contract::{
    Outcome,
    config::Business,
    message::Work,
    object,
    pack::{self, Format, ItemResult, Pack},
};
use kernel::{Priced, Refusal, Share, TRADES_MAX};
use serde::Serialize;

use super::{Kind, Problem};
use crate::{
    results::{bodies, latest},
    submit::content_type,
};

/// How every result of the kernel begins.
const BEGIN: &[u8] = br#"{"kernel":"monte-carlo","#;

/// The results that were computed once more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recomputed {
    /// Results that were computed once more.
    pub results: usize,
    /// Those that differ.
    pub problems: Vec<Problem>,
    /// Results of another program, which cannot be computed here.
    pub of_programs: usize,
    /// Jobs of which there is no local copy of the input.
    pub without_input: usize,
}

/// Computes the inputs in `folder`, each a file with the job id as its name, once more, and compares the latest results
/// of their Jobs. Common data is read from the bucket, or from the folder when the session is closed.
///
/// # Errors
/// When the bucket or a local file cannot be read.
pub async fn recompute(
    store: &Store,
    business: &Business,
    session: &str,
    folder: &Path,
    mut progress: impl FnMut(usize),
) -> anyhow::Result<Recomputed> {
    let (bucket, prefix) = (&business.bucket, object::outcome_prefix(&business.name, Some(session)));
    let listed = store.list(bucket, &prefix).await?;
    let threads = std::thread::available_parallelism().map_or(1, Into::into);
    let mut recomputed = Recomputed::default();
    for names in latest(&business.name, listed.iter().map(|object| object.name.as_str())).jobs {
        let mut input = None;
        for name in names {
            let Some(outcome) = outcomes::read_or_replace(store, bucket, &name).await? else { continue };
            let results = results(store, bucket, &outcome).await?;
            let Some(work) = outcome.work.filter(|_| !results.is_empty()) else { continue };
            let (all, of_kernel) = (results.len(), results.into_iter().filter(|(_, result)| result.starts_with(BEGIN)));
            let of_kernel: BTreeMap<_, _> = of_kernel.collect();
            recomputed.of_programs += all - of_kernel.len();
            if of_kernel.is_empty() {
                continue;
            }
            if input.is_none() {
                input = Some(read_input(store, &work, folder).await?);
            }
            let Some(Some((bytes, market))) = input.clone() else { continue };
            recomputed.results += of_kernel.len();
            let compared = tokio::task::spawn_blocking(move || {
                compare(&work, &name, &of_kernel, &bytes, market.as_deref(), threads)
            });
            recomputed.problems.extend(compared.await.context("compute the results once more")?);
            progress(recomputed.results);
        }
        recomputed.without_input += usize::from(input == Some(None));
    }
    Ok(recomputed)
}

/// The results of an outcome by item; that of a single input as item 0.
async fn results(store: &Store, bucket: &str, outcome: &Outcome) -> anyhow::Result<BTreeMap<u32, Bytes>> {
    match &outcome.work {
        Some(_) if outcome.result.is_some() => {
            let inline = outcome.result.as_ref().and_then(ItemResult::bytes);
            Ok(inline.map(|body| (0, body.into())).into_iter().collect())
        }
        Some(work) if outcome.items.is_empty() => {
            let result = store.read(bucket, &work.output(), None).await?;
            Ok(result.map(|(_, body)| (0, body)).into_iter().collect())
        }
        _ => {
            let bodies = bodies::read(store, bucket, &outcome.items, usize::MAX).await?;
            let inline =
                outcome.items.iter().filter_map(|item| Some((item.index, item.result.as_ref()?.bytes()?.into())));
            let parts = bodies.into_iter().filter_map(|(index, body)| Some((index, body?)));
            Ok(parts.chain(inline).collect())
        }
    }
}

/// The local copy of an input, and the market data of its session; `None` without a copy.
async fn read_input(store: &Store, work: &Work, folder: &Path) -> anyhow::Result<Option<(Bytes, Option<Bytes>)>> {
    let read = |name: &str| {
        let path = folder.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
        }
    };
    let Some(bytes) = read(&work.job)? else { return Ok(None) };
    let Ok(Some(market)) = kernel::market(work.common.iter().map(String::as_str)) else {
        return Ok(Some((bytes, None)));
    };
    let object = object::common(&work.business, &work.session, market);
    let market = match store.read(&work.identity.bucket, &object, None).await? {
        Some((_, market)) => Some(market),
        None => read(market)?,
    };
    Ok(Some((bytes, market)))
}

/// The results that differ from what the kernel computes.
fn compare(
    work: &Work,
    outcome: &str,
    results: &BTreeMap<u32, Bytes>,
    input: &[u8],
    market: Option<&[u8]>,
    threads: usize,
) -> Vec<Problem> {
    let problem = |(index, why): (u32, String)| Problem {
        problem: Kind::Recomputed,
        job: work.job.clone(),
        item: work.range().map(|_| index),
        object: outcome.to_owned(),
        message: format!("{why}; is the local input the one that was submitted, and the market data?"),
    };
    let computed = compute(work, results.keys().copied(), input, market, threads);
    let differing = results.iter().zip(computed).filter_map(|((index, result), computed)| match computed {
        Ok(computed) if computed.bytes == *result => None,
        Ok(_) => Some((*index, "the kernel computes another result".to_owned())),
        Err(refusal) => Some((*index, format!("the kernel refuses the input: {}", refusal.message))),
    });
    differing.map(problem).collect()
}

/// Computes items as the engine does.
fn compute(
    work: &Work,
    items: impl Iterator<Item = u32>,
    input: &[u8],
    market: Option<&[u8]>,
    threads: usize,
) -> Vec<Result<Priced, Refusal>> {
    let refused = || Refusal { code: "item-missing", message: "it has no such item, or none to price".to_owned() };
    let price = |bytes: &[u8], name: &str, content_type: &str, share| match kernel::asked(bytes, name, content_type) {
        Some(format) => kernel::price(kernel::Input { bytes, format, market }, share, threads),
        None => Err(refused()),
    };
    let priced = |bytes: &[u8], share| price(bytes, &work.identity.object, content_type(&work.job), share);
    let Some((pack, range)) = work.pack.as_ref().zip(work.range()) else {
        return items.map(|_| priced(input, Share::ALL)).collect();
    };
    let Pack { format, items: count, .. } = *pack;
    match format {
        Format::Whole => items.map(|index| priced(input, Share { index, count })).collect(),
        Format::Lines => {
            let lines: Vec<&[u8]> = pack::lines(input).collect();
            items
                .map(|index| {
                    let rows = pack.rows(&(index..index + 1));
                    let rows = rows.start..rows.end.min(lines.len());
                    lines
                        .get(rows)
                        .filter(|lines| !lines.is_empty())
                        .map_or_else(|| Err(refused()), |lines| priced(&lines.concat(), Share::ALL))
                })
                .collect()
        }
        Format::Files => {
            let mut files = Vec::new();
            // What is found before an error is compared.
            let _ = pack::files::read(input, false, |file| files.push(file));
            items
                .map(|index| {
                    let file = files.get(index as usize).ok_or_else(refused)?;
                    let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
                    let contents = input.get(at(file.contents.start)..at(file.contents.end)).ok_or_else(refused)?;
                    price(contents, &file.name, "", Share::ALL)
                })
                .collect()
        }
        Format::Table => {
            // As many rows at once as the engine reads.
            let step = pack.rows_per_item as usize;
            let each = u32::try_from(TRADES_MAX / step).unwrap_or(u32::MAX).max(1);
            let (mut chunk, mut books) = (0..0, Vec::new());
            items
                .map(|index| {
                    if !chunk.contains(&index) {
                        let first = index - (index - range.start) % each;
                        chunk = first..range.end.min(first.saturating_add(each));
                        books = kernel::read_items(input, &pack.rows(&chunk), step, market);
                    }
                    let book = books.get((index - chunk.start) as usize).ok_or_else(refused)?;
                    kernel::price_book(book.as_ref().map_err(Clone::clone)?, Share::ALL, threads)
                })
                .collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::testing;

    use super::*;

    const MARKET: &str = r#"{"schema": 1, "seed": 1, "paths": 100,
        "underlyings": {"A": {"spot": 100, "volatility": 0.2, "rate": 0}}}"#;
    const TABLE: &str = "id,kind,option,underlying,strike,maturity\na,european,call,A,100,1\nb,european,put,A,100,1\n\
                         c,european,put,A,90,1\n";

    fn range_of(format: Format, items: u32) -> Work {
        let pack = Pack { format, items, items_per_range: items, rows_per_item: 1 };
        Work { pack: Some(pack), ..testing::work("bu1", "s", "t.csv") }.of_range(0)
    }

    /// Results as the engine has them.
    fn results(work: &Work, input: &str) -> BTreeMap<u32, Bytes> {
        let items = work.items().into_iter();
        let computed = compute(work, items.clone(), input.as_bytes(), Some(MARKET.as_bytes()), 1);
        items.zip(computed.into_iter().map(|priced| priced.unwrap().bytes.into())).collect()
    }

    fn differing(work: &Work, results: &BTreeMap<u32, Bytes>, input: &str) -> Vec<Option<u32>> {
        let problems = compare(work, "o", results, input.as_bytes(), Some(MARKET.as_bytes()), 2);
        problems.into_iter().map(|problem| problem.item).collect()
    }

    #[test]
    fn results_are_the_same_bits_whatever_computes_them() {
        let table = range_of(Format::Table, 3);
        let of_table = results(&table, TABLE);
        assert!(of_table.values().all(|result| result.starts_with(BEGIN)), "{of_table:?}");
        assert_eq!(differing(&table, &of_table, TABLE), []);
        // Only some of the items have a result.
        let last = of_table.clone().split_off(&2);
        assert_eq!(differing(&table, &last, TABLE), []);
        // A row of the table was changed.
        assert_eq!(differing(&table, &of_table, &TABLE.replace("90", "91")), [Some(2)]);
        assert_eq!(differing(&table, &of_table, &TABLE.replace("c,european,put,A,90,1\n", "")), [Some(2)]);
        let whole = range_of(Format::Whole, 2);
        let of_whole = results(&whole, TABLE);
        assert!(of_whole[&0] != of_whole[&1] && differing(&whole, &of_whole, TABLE).is_empty());
        let line = |id: &str| {
            format!(
                r#"{{"schema":1,"seed":1,"paths":100,"underlyings":{{"A":{{"spot":100,"volatility":0.2,"rate":0}}}},"trades":[{{"id":"{id}","kind":"european","option":"call","underlying":"A","strike":100,"maturity":1}}]}}"#
            )
        };
        let (lines, text) = (range_of(Format::Lines, 2), format!("{}\n{}\n", line("x"), line("y")));
        let of_lines = {
            let computed = compute(&lines, 0..2, text.as_bytes(), None, 1);
            (0..).zip(computed.into_iter().map(|priced| Bytes::from(priced.unwrap().bytes))).collect()
        };
        assert_eq!(compare(&lines, "o", &of_lines, text.as_bytes(), None, 2), []);
        assert_eq!(compare(&lines, "o", &of_lines, text.replace("\"y\"", "\"z\"").as_bytes(), None, 2).len(), 1);
        let files = range_of(Format::Files, 2);
        let archive = |files: [(&str, String); 2]| {
            let mut bytes = Vec::new();
            pack::files::write(&mut bytes, files.map(|(name, text)| Ok((name.to_owned(), text)))).unwrap();
            bytes
        };
        let bytes = archive([("x.json", line("x")), ("y.json", line("y"))]);
        let of_files = (0..)
            .zip(compute(&files, 0..2, &bytes, None, 1))
            .map(|(index, priced)| (index, priced.unwrap().bytes.into()))
            .collect();
        assert_eq!(compare(&files, "o", &of_files, &bytes, None, 2), []);
        let changed = archive([("x.json", line("x")), ("y.json", line("z"))]);
        assert_eq!(compare(&files, "o", &of_files, &changed, None, 2).len(), 1);
        let single = testing::work("bu1", "s", "t.csv");
        let computed =
            compute(&single, [0].into_iter(), TABLE.as_bytes(), Some(MARKET.as_bytes()), 1).remove(0).unwrap();
        let of_single = BTreeMap::from([(0, computed.bytes.into())]);
        assert_eq!(differing(&single, &of_single, TABLE), []);
        assert_eq!(differing(&single, &of_single, "no table"), [None]);
    }
}
