//! Reads checked values out of parsed JSON and gathers everything that is wrong, each with line, column and field.

use std::{collections::HashMap, fmt, mem};

use super::json::{Member, Node, SyntaxError, Value, join};

/// Problems after which reading stops.
const PROBLEMS_MAX: usize = 20;
/// Bytes of a line up to which columns are counted in characters.
const COUNTED_MAX: usize = 64 * 1024;
/// Most characters of a wrong value that an error shows.
const SHOWN_MAX: usize = 40;

/// One thing that is wrong with a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the text; empty for the input itself.
    pub source: &'static str,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Field, like `trades[2].strike`; empty for the whole text.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Problem {
    /// The problem at a byte offset of the text.
    pub fn new(text: &str, at: usize, field: String, message: String) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            source: "",
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            field,
            message,
        }
    }

    /// The problem of a text that is not JSON.
    pub fn syntax(text: &str, error: SyntaxError) -> Self {
        Self::new(text, error.at, error.path, error.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}, ", self.source)?;
        }
        write!(f, "line {}, column {}: ", self.line, self.column)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.message)
    }
}

/// Where the lines of a text begin.
pub struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    /// The lines of a text.
    pub fn new(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { text, starts: std::iter::once(0).chain(breaks.map(|(at, _)| at + 1)).collect() }
    }

    /// The problem at a byte offset of the text.
    pub fn problem(&self, at: usize, field: String, message: String) -> Problem {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let start = self.starts[line - 1];
        // On a line that no person reads, bytes are counted.
        let before = self.text.get(start..at).filter(|before| before.len() < COUNTED_MAX);
        let column = before.map_or(at.saturating_sub(start), |before| before.chars().count()) + 1;
        Problem { source: "", line, column, field, message }
    }
}

/// Gathers problems while values are read.
#[derive(Debug, Default)]
pub struct Problems {
    found: Vec<(usize, String, String)>,
}

impl Problems {
    /// True when nothing was wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The problems in the order of the text.
    pub fn in_order(mut self, lines: &Lines<'_>) -> Vec<Problem> {
        self.found.sort_by_key(|(at, _, _)| *at);
        self.found.into_iter().map(|(at, field, message)| lines.problem(at, field, message)).collect()
    }

    /// Adds those of a part of the text.
    pub fn extend(&mut self, part: Self) {
        for (at, field, message) in part.found {
            self.add(at, field, message);
        }
    }

    /// True when so much is wrong that reading on tells nothing new.
    pub fn is_full(&self) -> bool {
        self.found.len() >= PROBLEMS_MAX
    }

    pub(super) fn add(&mut self, at: usize, field: String, message: String) {
        if self.found.len() < PROBLEMS_MAX {
            self.found.push((at, field, message));
        }
    }
}

/// An element of a list or map, with its path.
#[derive(Clone, Debug)]
pub struct Item<'n> {
    /// The element.
    pub node: &'n Node<'n>,
    /// Its path.
    pub path: String,
}

/// The fields of one JSON object, read one by one; the rest of them is unknown.
pub struct Fields<'n, 'p> {
    at: usize,
    members: &'n [Member<'n>],
    path: String,
    read: Vec<bool>,
    asked: Vec<&'static str>,
    missing: Vec<&'static str>,
    problems: &'p mut Problems,
}

impl<'n, 'p> Fields<'n, 'p> {
    /// The fields of `node`, or a problem when it is no object.
    pub fn new(node: &'n Node<'n>, path: String, problems: &'p mut Problems) -> Option<Self> {
        let Value::Map(members) = &node.value else {
            problems.add(node.at, path, format!("expected an object in {{}}, found {}", shown(&node.value)));
            return None;
        };
        let read = vec![false; members.len()];
        Some(Self { at: node.at, members, path, read, asked: Vec::new(), missing: Vec::new(), problems })
    }

    /// Reads the fields of an element.
    pub fn nested<T>(&mut self, item: &Item<'n>, read: impl FnOnce(&mut Fields<'n, '_>) -> Option<T>) -> Option<T> {
        let mut fields = Fields::new(item.node, item.path.clone(), self.problems)?;
        read(&mut fields)
    }

    /// Says that the field `name` is wrong.
    pub fn reject(&mut self, name: &str, message: String) {
        let at = self.members.iter().find(|member| member.key == name).map_or(self.at, |member| member.node.at);
        self.problems.add(at, join(&self.path, name), message);
    }

    /// Ends the object: fields that lack or were never asked for are problems.
    pub fn finish(&mut self) {
        for (number, member) in self.members.iter().enumerate() {
            if self.read[number] {
                continue;
            }
            let known = self.asked.iter().filter(|name| !self.members.iter().any(|member| member.key == **name));
            let near = nearest(&member.key, known.copied());
            let message = match near {
                Some(name) => {
                    // Misspelled is not missing.
                    self.missing.retain(|missing| *missing != name);
                    format!("unknown field; did you mean {name:?}?")
                }
                None => format!("unknown field; known here are {}", self.asked.join(", ")),
            };
            self.problems.add(member.at, join(&self.path, &truncated(&member.key)), message);
        }
        self.finish_known();
    }

    /// Ends the object where it is not known which other fields it may have: only fields that lack are problems.
    pub fn finish_known(&mut self) {
        for name in mem::take(&mut self.missing) {
            self.problems.add(self.at, join(&self.path, name), "this field is missing".to_owned());
        }
    }

    /// A field that must be there.
    pub fn item(&mut self, name: &'static str) -> Option<Item<'n>> {
        let node = self.required(name)?;
        Some(Item { node, path: join(&self.path, name) })
    }

    /// A text.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        let node = self.required(name)?;
        self.as_text(name, node, "a text that is not empty").filter(|text| !text.is_empty()).or_else(|| {
            if matches!(&node.value, Value::Text(_)) {
                self.reject(name, "expected a text that is not empty".to_owned());
            }
            None
        })
    }

    /// A text, checked for its type only.
    pub fn optional_text(&mut self, name: &'static str) -> Option<String> {
        let node = self.optional(name)?;
        self.as_text(name, node, "a text")
    }

    /// An integer from `least` to `most`; a decimal like `1e6` or `10.0` will do when it is whole.
    pub fn integer(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        let node = self.required(name)?;
        let read = match &node.value {
            Value::Number(raw) => raw.parse().ok().or_else(|| {
                let number: f64 = raw.parse().ok()?;
                // Above 2^53 a decimal does not say which integer it means.
                (number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(&number)).then_some(number as u64)
            }),
            _ => None,
        };
        let read = read.filter(|read| (least..=most).contains(read));
        if read.is_none() {
            self.reject(name, format!("expected an integer from {least} to {most}, found {}", shown(&node.value)));
        }
        read
    }

    /// An integer from `least` to `most`; `None` without a problem when it is absent.
    pub fn optional_integer(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        if self.has(name) { self.integer(name, least, most) } else { self.may_have(name) }
    }

    /// The number of the word among `words`; `None` without a problem when it is absent.
    pub fn optional_choice(&mut self, name: &'static str, words: &[&str]) -> Option<usize> {
        if self.has(name) { self.choice(name, words) } else { self.may_have(name) }
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.key == name)
    }

    /// Says that a field may be there which is not.
    pub fn may_have<T>(&mut self, name: &'static str) -> Option<T> {
        self.asked.push(name);
        None
    }

    /// The numbers of a list.
    pub fn numbers(&mut self, name: &'static str, most: usize, least: f64, largest: f64) -> Option<Vec<f64>> {
        let items = self.list(name, most)?;
        let read: Vec<Option<f64>> = items
            .iter()
            .map(|item| {
                let number = as_number(item.node).filter(|number| (least..=largest).contains(number));
                if number.is_none() {
                    let found = shown(&item.node.value);
                    let message = format!("expected a number from {least} to {largest}, found {found}");
                    self.problems.add(item.node.at, item.path.clone(), message);
                }
                number
            })
            .collect();
        read.into_iter().collect()
    }

    /// A number above 0 and at most `most`.
    pub fn positive(&mut self, name: &'static str, most: f64) -> Option<f64> {
        let node = self.required(name)?;
        match as_number(node) {
            Some(number) if number > 0.0 && number <= most => Some(number),
            Some(number) if number > most => {
                self.reject(name, format!("expected a positive number up to {most}, found {}", shown(&node.value)));
                None
            }
            _ => {
                self.reject(name, format!("expected a positive number, found {}", shown(&node.value)));
                None
            }
        }
    }

    /// A number from `least` to `most`.
    pub fn number_between(&mut self, name: &'static str, least: f64, most: f64) -> Option<f64> {
        let node = self.required(name)?;
        self.between(name, node, least, most)
    }

    /// A number from `least` to `most`, or `default` when it is absent.
    pub fn optional_number_between(&mut self, name: &'static str, least: f64, most: f64, default: f64) -> Option<f64> {
        match self.optional(name) {
            Some(node) => self.between(name, node, least, most),
            None => Some(default),
        }
    }

    /// The number of the word among `words`.
    pub fn choice(&mut self, name: &'static str, words: &[&str]) -> Option<usize> {
        let item = self.item(name)?;
        self.choice_of(&item, words)
    }

    /// The number of an element among `words`.
    pub fn choice_of(&mut self, item: &Item<'n>, words: &[&str]) -> Option<usize> {
        let found = match &item.node.value {
            Value::Text(text) => words.iter().position(|word| word == text),
            _ => None,
        };
        if found.is_none() {
            let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
            let mut message = format!("expected {}, found {}", quoted.join(" or "), shown(&item.node.value));
            if let Value::Text(text) = &item.node.value
                && let Some(near) = nearest(text, words.iter().copied())
            {
                message.push_str(&format!("; did you mean {near:?}?"));
            }
            self.problems.add(item.node.at, item.path.clone(), message);
        }
        found
    }

    /// The number that stands for a name.
    pub fn known(&mut self, item: &Item<'n>, names: &HashMap<String, usize>) -> Option<usize> {
        let Value::Text(name) = &item.node.value else {
            let message = format!("expected a name in quotes, found {}", shown(&item.node.value));
            self.problems.add(item.node.at, item.path.clone(), message);
            return None;
        };
        let found = names.get(name.as_ref()).copied();
        if found.is_none() {
            let mut message = format!("{} is not one of the underlyings", shown(&item.node.value));
            if let Some(near) = nearest(name, names.keys().take(1000).map(String::as_str)) {
                message.push_str(&format!("; did you mean {:?}?", truncated(near)));
            }
            self.problems.add(item.node.at, item.path.clone(), message);
        }
        found
    }

    /// The elements of a list, at most `most`.
    pub fn list(&mut self, name: &'static str, most: usize) -> Option<Vec<Item<'n>>> {
        let node = self.required(name)?;
        self.as_list(name, node, most)
    }

    /// The elements of a list; `Some(None)` when it is absent.
    pub fn optional_list(&mut self, name: &'static str, most: usize) -> Option<Option<Vec<Item<'n>>>> {
        match self.optional(name) {
            Some(node) => self.as_list(name, node, most).map(Some),
            None => Some(None),
        }
    }

    /// The members of an object with free names, at most `most`.
    pub fn map(&mut self, name: &'static str, most: usize) -> Option<Vec<(String, Item<'n>)>> {
        let node = self.required(name)?;
        let Value::Map(members) = &node.value else {
            self.reject(name, format!("expected an object in {{}}, found {}", shown(&node.value)));
            return None;
        };
        if members.len() > most {
            self.reject(name, format!("expected at most {most} members, found {}", members.len()));
            return None;
        }
        let path = join(&self.path, name);
        let item = |member: &'n Member<'n>| Item { node: &member.node, path: join(&path, &truncated(&member.key)) };
        Some(members.iter().map(|member| (member.key.clone().into_owned(), item(member))).collect())
    }

    fn optional(&mut self, name: &'static str) -> Option<&'n Node<'n>> {
        self.asked.push(name);
        let number = self.members.iter().position(|member| member.key == name)?;
        self.read[number] = true;
        Some(&self.members[number].node)
    }

    fn required(&mut self, name: &'static str) -> Option<&'n Node<'n>> {
        let node = self.optional(name);
        if node.is_none() {
            self.missing.push(name);
        }
        node
    }

    fn as_text(&mut self, name: &str, node: &'n Node<'n>, wanted: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone().into_owned()),
            other => {
                self.reject(name, format!("expected {wanted}, found {}", shown(other)));
                None
            }
        }
    }

    fn as_list(&mut self, name: &str, node: &'n Node<'n>, most: usize) -> Option<Vec<Item<'n>>> {
        let Value::List(nodes) = &node.value else {
            self.reject(name, format!("expected a list in [], found {}", shown(&node.value)));
            return None;
        };
        if nodes.len() > most {
            self.reject(name, format!("expected at most {most} elements, found {}", nodes.len()));
            return None;
        }
        let path = join(&self.path, name);
        Some(nodes.iter().enumerate().map(|(number, node)| Item { node, path: format!("{path}[{number}]") }).collect())
    }

    fn between(&mut self, name: &str, node: &Node<'_>, least: f64, most: f64) -> Option<f64> {
        let number = as_number(node).filter(|number| (least..=most).contains(number));
        if number.is_none() {
            self.reject(name, format!("expected a number from {least} to {most}, found {}", shown(&node.value)));
        }
        number
    }
}

fn as_number(node: &Node<'_>) -> Option<f64> {
    match &node.value {
        Value::Number(raw) => raw.parse().ok().filter(|number: &f64| number.is_finite()),
        _ => None,
    }
}

/// The name that was probably meant.
pub fn nearest<'a>(found: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let found = truncated(found);
    known
        .map(|name| (strsim::damerau_levenshtein(name, &found), name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// A value as an error shows it.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Number(raw) => truncated(raw),
        Value::Text(text) => format!("{:?}", truncated(text)),
        Value::List(_) => "a list".to_owned(),
        Value::Map(_) => "an object".to_owned(),
    }
}

fn truncated(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
