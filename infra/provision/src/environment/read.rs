//! Reads typed values out of a TOML document and collects everything that is wrong on the way.

use std::{cell::RefCell, ops::Range, ops::RangeInclusive};

use toml_edit::{Item, TableLike, Value};

use super::{Overrides, Place, Problem};

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Spanned<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Collects problems while sections are read.
pub(super) struct Reader<'a> {
    overrides: &'a Overrides,
    problems: RefCell<Vec<Problem>>,
}

/// One table of the file; an absent one reads as empty.
pub(super) struct Section<'a> {
    reader: &'a Reader<'a>,
    path: String,
    table: Option<&'a dyn TableLike>,
    place: Place,
    known: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(overrides: &'a Overrides) -> Self {
        Self { overrides, problems: RefCell::default() }
    }

    pub(super) fn problem(&self, place: &Place, message: impl Into<String>) {
        self.problem_with_help(place, message, None);
    }

    pub(super) fn problem_with_help(&self, place: &Place, message: impl Into<String>, help: Option<String>) {
        self.problems.borrow_mut().push(Problem { place: place.clone(), message: message.into(), help });
    }

    pub(super) fn finish(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    pub(super) fn root(&'a self, table: &'a toml_edit::Table) -> Section<'a> {
        Section {
            reader: self,
            path: String::new(),
            table: Some(table),
            place: Place::File(0..0),
            known: RefCell::default(),
        }
    }
}

impl<'a> Section<'a> {
    /// Where the section begins.
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where a key is, if it is there.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.table.filter(|table| table.contains_key(key)).map(|_| self.key_place(key))
    }

    /// Whether the key is there, or the environment variable that overrides it.
    pub(super) fn has(&self, key: &str, variable: &str) -> bool {
        self.reader.overrides.get(variable).is_some_and(|value| !value.is_empty())
            || self.table.is_some_and(|table| table.contains_key(key))
    }

    /// A table inside this one.
    pub(super) fn section(&self, key: &'static str) -> Section<'a> {
        let (table, place) = match self.item(key) {
            Some((key_place, item)) => match item.as_table_like() {
                Some(table) => (Some(table), key_place),
                None => {
                    self.wrong_type(key, item, "a table");
                    (None, key_place)
                }
            },
            None => (None, self.place.clone()),
        };
        Section { reader: self.reader, path: self.full(key), table, place, known: RefCell::default() }
    }

    /// The tables inside the table `key`, by name and in the order of the file.
    pub(super) fn sections(&self, key: &'static str) -> Vec<(Spanned<String>, Section<'a>)> {
        let outer = self.section(key);
        let mut sections = Vec::new();
        for (name, item) in outer.table.into_iter().flat_map(TableLike::iter) {
            let place = outer.key_place(name);
            let path = format!("{}.{name}", outer.path);
            let Some(table) = item.as_table_like() else {
                let message = format!("`{path}` must be a table, not {}", article(item));
                self.reader.problem(&item_place(item, &place), message);
                continue;
            };
            let name = Spanned { value: name.to_owned(), place: place.clone() };
            let section = Section { reader: self.reader, path, table: Some(table), place, known: RefCell::default() };
            sections.push((name, section));
        }
        sections
    }

    /// Every key of this table with its text.
    pub(super) fn texts(&self) -> Vec<(Spanned<String>, Spanned<String>)> {
        let mut texts = Vec::new();
        for (name, item) in self.table.into_iter().flat_map(TableLike::iter) {
            let key_place = self.key_place(name);
            match item.as_str() {
                Some(text) => texts.push((
                    Spanned { value: name.to_owned(), place: key_place.clone() },
                    Spanned { value: text.to_owned(), place: item_place(item, &key_place) },
                )),
                None => self.wrong_type(name, item, "text in quotes"),
            }
        }
        texts
    }

    /// Text.
    pub(super) fn text(&self, key: &'static str) -> Option<Spanned<String>> {
        let (key_place, item) = self.item(key)?;
        match item.as_str() {
            Some(text) => Some(Spanned { value: text.to_owned(), place: item_place(item, &key_place) }),
            None => {
                self.wrong_type(key, item, "text in quotes");
                None
            }
        }
    }

    /// Text that `check` understands.
    pub(super) fn parsed<T>(&self, key: &'static str, check: impl Fn(&str) -> Result<T, String>) -> Option<Spanned<T>> {
        let text = self.text(key)?;
        self.check(key, text, check)
    }

    /// As [`Section::parsed`], replaced by the environment variable `variable` when that is set and not empty.
    pub(super) fn overridden<T>(
        &self,
        key: &'static str,
        variable: &str,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        match self.reader.overrides.get(variable).filter(|value| !value.is_empty()) {
            Some(value) => {
                self.known.borrow_mut().push(key);
                let text = Spanned { value: value.clone(), place: Place::Variable(variable.to_owned()) };
                self.check(key, text, check)
            }
            None => self.parsed(key, check),
        }
    }

    fn check<T>(
        &self,
        key: &str,
        text: Spanned<String>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Spanned<T>> {
        match check(&text.value) {
            Ok(value) => Some(Spanned { value, place: text.place }),
            Err(message) => {
                let full = self.full(key);
                self.reader.problem(&text.place, format!("`{full}` is {:?}, but {message}", text.value));
                None
            }
        }
    }

    /// A whole number within `range`, or `default`.
    pub(super) fn number(&self, key: &'static str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let Some((key_place, item)) = self.item(key) else { return default };
        let Some(number) = item.as_integer() else {
            self.wrong_type(key, item, "a whole number");
            return default;
        };
        match u32::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                let message =
                    format!("`{}` is {number}, but must be from {} to {}", self.full(key), range.start(), range.end());
                self.reader.problem(&item_place(item, &key_place), message);
                default
            }
        }
    }

    /// A list of whole numbers within `range`; empty when it is absent.
    pub(super) fn numbers(&self, key: &'static str, range: RangeInclusive<u32>) -> Vec<u32> {
        let Some((key_place, item)) = self.item(key) else { return Vec::new() };
        let Some(array) = item.as_array() else {
            self.wrong_type(key, item, "a list of whole numbers");
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for value in array {
            let number = value.as_integer().and_then(|number| u32::try_from(number).ok());
            match number.filter(|number| range.contains(number)) {
                Some(number) => numbers.push(number),
                None => {
                    let place = value.span().map_or_else(|| key_place.clone(), Place::File);
                    let message = format!(
                        "`{}` must hold only whole numbers from {} to {}, not {}",
                        self.full(key),
                        range.start(),
                        range.end(),
                        value.to_string().trim()
                    );
                    self.reader.problem(&place, message);
                }
            }
        }
        numbers
    }

    /// `true` or `false`, or `default`.
    pub(super) fn boolean(&self, key: &'static str, default: bool) -> bool {
        let Some((_, item)) = self.item(key) else { return default };
        item.as_bool().unwrap_or_else(|| {
            self.wrong_type(key, item, "true or false");
            default
        })
    }

    /// One of a few words, or the type's default.
    pub(super) fn choice<T: Copy + Default>(&self, key: &'static str, choices: &[(&'static str, T)]) -> T {
        let Some(text) = self.text(key) else { return T::default() };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.value) {
            return *choice;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
        let message = format!("`{}` is {:?}, but must be {}", self.full(key), text.value, quoted.join(" or "));
        self.reader.problem_with_help(&text.place, message, did_you_mean(&text.value, &words));
        T::default()
    }

    /// A list of texts.
    pub(super) fn list(&self, key: &'static str) -> Option<Vec<Spanned<String>>> {
        let (key_place, item) = self.item(key)?;
        self.texts_of(key, &key_place, item)
    }

    fn texts_of(&self, key: &str, key_place: &Place, item: &Item) -> Option<Vec<Spanned<String>>> {
        let Some(array) = item.as_array() else {
            self.wrong_type(key, item, "a list of texts in quotes");
            return None;
        };
        let mut list = Vec::new();
        for value in array {
            let place = value.span().map_or_else(|| key_place.clone(), Place::File);
            match value.as_str() {
                Some(text) => list.push(Spanned { value: text.to_owned(), place }),
                None => {
                    let message =
                        format!("`{}` must hold only texts in quotes, not {}", self.full(key), value_article(value));
                    self.reader.problem(&place, message);
                }
            }
        }
        Some(list)
    }

    /// Every key of the table `key` with its list of texts, in the order of the file.
    pub(super) fn lists(&self, key: &'static str) -> Vec<(Spanned<String>, Vec<Spanned<String>>)> {
        let inner = self.section(key);
        let mut lists = Vec::new();
        for (name, item) in inner.table.into_iter().flat_map(TableLike::iter) {
            let place = inner.key_place(name);
            let name = Spanned { value: name.to_owned(), place };
            let list = inner.texts_of(&name.value, &name.place, item).unwrap_or_default();
            lists.push((name, list));
        }
        lists
    }

    /// Reports every key that nobody asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for (key, _) in self.table.into_iter().flat_map(TableLike::iter) {
            if !known.contains(&key) {
                let help = did_you_mean(key, &known).or_else(|| {
                    let mut known: Vec<&str> = known.clone();
                    known.sort_unstable();
                    Some(format!("the keys here are {}", known.join(", ")))
                });
                self.reader.problem_with_help(&self.key_place(key), format!("unknown key `{}`", self.full(key)), help);
            }
        }
    }

    fn item(&self, key: &'static str) -> Option<(Place, &'a Item)> {
        self.known.borrow_mut().push(key);
        let item = self.table?.get(key).filter(|item| !item.is_none())?;
        Some((self.key_place(key), item))
    }

    fn key_place(&self, key: &str) -> Place {
        let key_and_item = self.table.and_then(|table| table.get_key_value(key));
        key_and_item
            .and_then(|(key, item)| key.span().or_else(|| item.span()))
            .map_or_else(|| self.place.clone(), Place::File)
    }

    fn wrong_type(&self, key: &str, item: &Item, desired: &str) {
        let place = item_place(item, &self.key_place(key));
        self.reader.problem(&place, format!("`{}` must be {desired}, not {}", self.full(key), article(item)));
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// "did you mean …", when one of the words is close enough.
pub(super) fn did_you_mean(wrong: &str, words: &[&str]) -> Option<String> {
    let plain = |word: &str| word.to_lowercase().replace(['-', '_'], "");
    words
        .iter()
        .map(|word| (strsim::jaro_winkler(&plain(wrong), &plain(word)), word))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, word)| format!("did you mean `{word}`?"))
}

fn item_place(item: &Item, otherwise: &Place) -> Place {
    let span: Option<Range<usize>> = match item {
        // The span of a table is all of it; its name says more.
        Item::Table(_) | Item::ArrayOfTables(_) | Item::None => None,
        Item::Value(value) => value.span(),
    };
    span.map_or_else(|| otherwise.clone(), Place::File)
}

fn article(item: &Item) -> &'static str {
    match item {
        Item::Value(value) => value_article(value),
        Item::Table(_) => "a table",
        Item::ArrayOfTables(_) => "a list of tables",
        Item::None => "nothing",
    }
}

fn value_article(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::InlineTable(_) => "a table",
    }
}
