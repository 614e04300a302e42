//! Fields that hold texts: any, words of a list, and names of other things.

use std::collections::HashMap;

use super::{Fields, Item};
use crate::pricing::{
    json::{Node, Value},
    shown::{nearest, shown, truncated},
};

impl<'n> Fields<'n, '_> {
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

    /// What the word of a field stands for; `None` without a problem when it is absent.
    pub fn optional_choice<T: Copy>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        if self.has(name) { self.choice(name, words) } else { self.may_have(name) }
    }

    /// What the word of a field stands for.
    pub fn choice<T: Copy>(&mut self, name: &'static str, words: &[(&'static str, T)]) -> Option<T> {
        let item = self.item(name)?;
        self.choice_of(&item, words)
    }

    /// What the word of an element stands for.
    pub fn choice_of<T: Copy>(&mut self, item: &Item<'n>, words: &[(&'static str, T)]) -> Option<T> {
        let found = match &item.node.value {
            Value::Text(text) => words.iter().find(|(word, _)| word == text).map(|(_, meaning)| *meaning),
            _ => None,
        };
        if found.is_none() {
            let quoted: Vec<String> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            let mut message = format!("expected {}, found {}", quoted.join(" or "), shown(&item.node.value));
            if let Value::Text(text) = &item.node.value
                && let Some(near) = nearest(text, words.iter().map(|(word, _)| *word))
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

    fn as_text(&mut self, name: &str, node: &'n Node<'n>, wanted: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone().into_owned()),
            other => {
                self.reject(name, format!("expected {wanted}, found {}", shown(other)));
                None
            }
        }
    }
}
