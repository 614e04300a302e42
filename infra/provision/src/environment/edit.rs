//! Edits the environment file as a person would: comments and order stay.

use anyhow::{Context as _, bail};
use toml_edit::{DocumentMut, Item, Table, TableLike};

/// The text with an empty business `name` added after the others.
///
/// # Errors
/// When the text is not TOML, the name is not allowed, or there is such a business already.
pub fn add_business(text: &str, name: &str) -> anyhow::Result<String> {
    contract::names::check_business(name)?;
    let mut document: DocumentMut = text.parse().context("parse the environment file")?;
    let businesses = document.entry("businesses").or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let last = last_position(businesses);
    let Some(businesses) = businesses.as_table_like_mut() else { bail!("`businesses` is not a table") };
    if businesses.contains_key(name) {
        bail!("there is a business {name:?} already");
    }
    let mut table = Table::new();
    // Without a position of its own a new table goes behind everything; behind its sisters is where a person expects
    // it.
    table.set_position(last);
    table.decor_mut().set_prefix("\n");
    businesses.insert(name, Item::Table(table));
    Ok(document.to_string())
}

/// The text without the business `name` and the comment right above it.
///
/// # Errors
/// When the text is not TOML or there is no such business.
pub fn remove_business(text: &str, name: &str) -> anyhow::Result<String> {
    let mut document: DocumentMut = text.parse().context("parse the environment file")?;
    let businesses = document.get_mut("businesses").and_then(Item::as_table_like_mut);
    let removed = businesses.and_then(|businesses| businesses.remove(name));
    if removed.is_none() {
        bail!("there is no business {name:?}");
    }
    Ok(document.to_string())
}

/// The position of the last table inside `item`, itself included.
fn last_position(item: &Item) -> Option<isize> {
    let own = item.as_table().and_then(Table::position);
    let inner = item.as_table_like().into_iter().flat_map(TableLike::iter).filter_map(|(_, item)| last_position(item));
    inner.chain(own).max()
}
