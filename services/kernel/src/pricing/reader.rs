//! Reads checked values out of parsed JSON, and gathers everything that is wrong.

use std::mem;

use super::{
    json::{Member, Node, Value, join},
    problem::Problems,
    shown::{nearest, shown, truncated},
};

mod numbers;
mod words;

/// A field of a trade: the name of a JSON member and of a table's column, and what a cell of the column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field(pub &'static str, pub Cell);

/// What a cell of a table holds; semicolons separate the elements of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A text.
    Text,
    /// A number.
    Number,
    /// A list of texts.
    Texts,
    /// A list of numbers.
    Numbers,
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

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.key == name)
    }

    /// Says that a field may be there which is not.
    pub fn may_have<T>(&mut self, name: &'static str) -> Option<T> {
        self.asked.push(name);
        None
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
}
