//! Subscription filters: which messages of a topic a subscription gets.

use std::collections::HashMap;

/// Longest filter, in bytes.
const FILTER_MAX: usize = 256;

/// A parsed filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// All of them hold.
    And(Vec<Filter>),
    /// One of them holds.
    Or(Vec<Filter>),
    /// It does not hold.
    Not(Box<Filter>),
    /// `attributes:key`
    Has(String),
    /// `attributes.key = "value"`
    Equal(String, String),
    /// `hasPrefix(attributes.key, "prefix")`
    Prefix(String, String),
}

impl Filter {
    /// Parses a filter; an empty one lets everything through.
    ///
    /// # Errors
    /// Says what cannot be understood.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        if text.len() > FILTER_MAX {
            return Err(format!("the filter has more than {FILTER_MAX} bytes"));
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0 };
        if parser.tokens.is_empty() {
            return Ok(None);
        }
        let filter = parser.expression()?;
        match parser.peek() {
            None => Ok(Some(filter)),
            Some(token) => Err(format!("unexpected {token:?}")),
        }
    }

    /// True when a message with these attributes gets through.
    pub fn matches(&self, attributes: &HashMap<String, String>) -> bool {
        match self {
            Self::And(all) => all.iter().all(|filter| filter.matches(attributes)),
            Self::Or(any) => any.iter().any(|filter| filter.matches(attributes)),
            Self::Not(inner) => !inner.matches(attributes),
            Self::Has(key) => attributes.contains_key(key),
            Self::Equal(key, value) => attributes.get(key) == Some(value),
            Self::Prefix(key, prefix) => attributes.get(key).is_some_and(|value| value.starts_with(prefix)),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
    NotEqual,
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let taken = if rest.starts_with("!=") {
            tokens.push(Token::NotEqual);
            2
        } else if "().,:=-".contains(first) {
            tokens.push(Token::Sign(first));
            1
        } else if first == '"' {
            let mut value = String::new();
            let mut characters = rest[1..].char_indices();
            loop {
                match characters.next() {
                    Some((at, '"')) => break tokens_push(&mut tokens, value, at + 2),
                    Some((_, '\\')) => value.extend(characters.next().map(|(_, character)| character)),
                    Some((_, character)) => value.push(character),
                    None => return Err("unterminated string".to_owned()),
                }
            }
        } else if first.is_alphanumeric() || first == '_' {
            let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            end
        } else {
            return Err(format!("unexpected character {first:?}"));
        };
        rest = rest[taken..].trim_start();
    }
    Ok(tokens)
}

fn tokens_push(tokens: &mut Vec<Token>, value: String, taken: usize) -> usize {
    tokens.push(Token::Text(value));
    taken
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn next(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.at).cloned();
        self.at += 1;
        token
    }

    fn word(&self, wanted: &str) -> bool {
        matches!(self.peek(), Some(Token::Word(word)) if word == wanted)
    }

    fn need(&mut self, sign: char) -> Result<(), String> {
        match self.next() {
            Some(Token::Sign(found)) if found == sign => Ok(()),
            other => Err(format!("expected {sign:?}, found {other:?}")),
        }
    }

    fn expression(&mut self) -> Result<Filter, String> {
        let first = self.term()?;
        let Some(joint) = ["AND", "OR"].into_iter().find(|joint| self.word(joint)) else { return Ok(first) };
        let mut terms = vec![first];
        while self.word(joint) {
            self.at += 1;
            terms.push(self.term()?);
        }
        if self.word("AND") || self.word("OR") {
            return Err("AND and OR need parentheses between them".to_owned());
        }
        Ok(if joint == "AND" { Filter::And(terms) } else { Filter::Or(terms) })
    }

    fn term(&mut self) -> Result<Filter, String> {
        if self.word("NOT") || self.peek() == Some(&Token::Sign('-')) {
            self.at += 1;
            return Ok(Filter::Not(Box::new(self.term()?)));
        }
        if self.peek() == Some(&Token::Sign('(')) {
            self.at += 1;
            let inner = self.expression()?;
            self.need(')')?;
            return Ok(inner);
        }
        if self.word("hasPrefix") {
            self.at += 1;
            self.need('(')?;
            self.attributes()?;
            self.need('.')?;
            let key = self.key()?;
            self.need(',')?;
            let prefix = self.text()?;
            self.need(')')?;
            return Ok(Filter::Prefix(key, prefix));
        }
        self.attributes()?;
        match self.next() {
            Some(Token::Sign(':')) => self.key().map(Filter::Has),
            Some(Token::Sign('.')) => {
                let key = self.key()?;
                match self.next() {
                    Some(Token::Sign('=')) => Ok(Filter::Equal(key, self.text()?)),
                    Some(Token::NotEqual) => Ok(Filter::Not(Box::new(Filter::Equal(key, self.text()?)))),
                    other => Err(format!("expected = or !=, found {other:?}")),
                }
            }
            other => Err(format!("expected ':' or '.', found {other:?}")),
        }
    }

    fn attributes(&mut self) -> Result<(), String> {
        match self.next() {
            Some(Token::Word(word)) if word == "attributes" => Ok(()),
            other => Err(format!("expected attributes, found {other:?}")),
        }
    }

    fn key(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Word(key) | Token::Text(key)) => Ok(key),
            other => Err(format!("expected an attribute's name, found {other:?}")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.next() {
            Some(Token::Text(text)) => Ok(text),
            other => Err(format!("expected a string, found {other:?}")),
        }
    }
}

#[cfg(test)]
mod tests;
