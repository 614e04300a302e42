//! A reader of JSON (RFC 8259) that keeps where each value stands, so that errors about a value can name its line.

use std::{borrow::Cow, collections::HashSet};

/// Deepest nesting that is read.
const DEPTH_MAX: usize = 32;
/// Most values of one text; bounds the memory that a text can claim.
const VALUES_MAX: usize = 4_000_000;

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node<'t> {
    /// Offset of its first byte.
    pub at: usize,
    /// What it is.
    pub value: Value<'t>,
}

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'t> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number as it is spelled.
    Number(Cow<'t, str>),
    /// A string.
    Text(Cow<'t, str>),
    /// An array.
    List(Vec<Node<'t>>),
    /// An object, in the order of the text.
    Map(Vec<Member<'t>>),
}

/// One member of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Member<'t> {
    /// Offset of the key.
    pub at: usize,
    /// Key.
    pub key: Cow<'t, str>,
    /// Value.
    pub node: Node<'t>,
}

/// A text that is not JSON, or more of it than is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// Offset of the byte that does not fit.
    pub at: usize,
    /// Path of the value that it belongs to, like `trades[2].strike`.
    pub path: String,
    /// What was expected.
    pub message: String,
}

/// Parses a text that is one JSON value.
///
/// # Errors
/// The first place where the text is not JSON, is nested too deeply, or repeats a key.
pub fn parse(text: &str) -> Result<Node<'_>, SyntaxError> {
    let mut parser = Parser { text, bytes: text.as_bytes(), at: 0, values: 0 };
    parser.space();
    let node = parser.value(0)?;
    parser.space();
    if parser.at < parser.bytes.len() {
        return Err(parser.expected("the end of the text"));
    }
    Ok(node)
}

/// A path with one more key.
pub fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

struct Parser<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    values: usize,
}

impl<'t> Parser<'t> {
    fn space(&mut self) {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn error(&self, at: usize, message: impl Into<String>) -> SyntaxError {
        SyntaxError { at, path: String::new(), message: message.into() }
    }

    fn expected(&self, what: &str) -> SyntaxError {
        let found = match self.text.get(self.at..).and_then(|rest| rest.chars().next()) {
            Some(found) => format!("{found:?}"),
            None => "the end of the text".to_owned(),
        };
        self.error(self.at, format!("expected {what}, found {found}"))
    }

    fn value(&mut self, depth: usize) -> Result<Node<'t>, SyntaxError> {
        let at = self.at;
        self.values += 1;
        if depth > DEPTH_MAX {
            return Err(self.error(at, format!("nested more than {DEPTH_MAX} levels deep")));
        }
        if self.values > VALUES_MAX {
            return Err(self.error(at, format!("more than {VALUES_MAX} values")));
        }
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => Value::Number(Cow::Borrowed(self.number()?)),
            Some(b'a'..=b'z' | b'A'..=b'Z') => self.word()?,
            _ => return Err(self.expected("a value")),
        };
        Ok(Node { at, value })
    }

    fn word(&mut self) -> Result<Value<'t>, SyntaxError> {
        let rest = &self.text[self.at..];
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        let value = match &rest[..length] {
            "null" => Value::Null,
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            word => {
                let word: String = word.chars().take(40).collect();
                return Err(self.error(self.at, format!("expected a value, found {word} (text stands in quotes)")));
            }
        };
        self.at += length;
        Ok(value)
    }

    fn number(&mut self) -> Result<&'t str, SyntaxError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'.' | b'_')) {
            return Err(self.expected("the end of the number"));
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        if !matches!(self.peek(), Some(b'0'..=b'9')) {
            return Err(self.expected("a digit"));
        }
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Cow<'t, str>, SyntaxError> {
        let open = self.at;
        self.at += 1;
        let mut start = self.at;
        let mut owned: Option<String> = None;
        loop {
            match self.peek() {
                None => return Err(self.error(open, "this text has no closing quote")),
                Some(b'"') => {
                    let piece = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(match owned {
                        Some(text) => Cow::Owned(text + piece),
                        None => Cow::Borrowed(piece),
                    });
                }
                Some(b'\\') => {
                    let text = owned.get_or_insert_default();
                    text.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    let escaped = self.escape()?;
                    owned.get_or_insert_default().push(escaped);
                    start = self.at;
                }
                Some(0..=0x1F) => {
                    return Err(
                        self.error(self.at, "a line break or control character inside a text; is a quote missing?")
                    );
                }
                Some(_) => self.at += 1,
            }
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let at = self.at - 1;
        let simple = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode(at);
            }
            _ => return Err(self.error(at, "this escape is none of JSON's")),
        };
        self.at += 1;
        Ok(simple)
    }

    fn unicode(&mut self, at: usize) -> Result<char, SyntaxError> {
        let first = self.hexadecimal(at)?;
        let code = if (0xD800..0xDC00).contains(&first) && self.take(b'\\') && self.take(b'u') {
            let second = self.hexadecimal(at)?;
            match second {
                0xDC00..0xE000 => 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00),
                _ => first,
            }
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.error(at, "half of a surrogate pair is no character"))
    }

    fn hexadecimal(&mut self, at: usize) -> Result<u32, SyntaxError> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let Some(code) = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()) else {
            return Err(self.error(at, "\\u is followed by four hexadecimal digits"));
        };
        self.at += 4;
        Ok(code)
    }

    fn list(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.space();
        if self.take(b']') {
            return Ok(Value::List(items));
        }
        loop {
            self.space();
            let item = self.value(depth + 1).map_err(|error| within(error, &format!("[{}]", items.len())))?;
            items.push(item);
            self.space();
            if self.take(b']') {
                return Ok(Value::List(items));
            }
            if !self.take(b',') {
                return Err(within(self.expected("',' or ']'"), &format!("[{}]", items.len() - 1)));
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value<'t>, SyntaxError> {
        self.at += 1;
        let mut members: Vec<Member<'t>> = Vec::new();
        let mut keys: HashSet<String> = HashSet::new();
        self.space();
        if self.take(b'}') {
            return Ok(Value::Map(members));
        }
        loop {
            self.space();
            let at = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.expected("a field name in quotes"));
            }
            let key = self.string()?;
            // Few keys are compared one by one, which needs no memory.
            let repeated = if members.len() < 32 {
                members.iter().any(|member| member.key == key)
            } else {
                if keys.is_empty() {
                    keys.extend(members.iter().map(|member| member.key.clone().into_owned()));
                }
                !keys.insert(key.clone().into_owned())
            };
            if repeated {
                return Err(within(self.error(at, "this field is there twice"), &key));
            }
            self.space();
            if !self.take(b':') {
                return Err(within(self.expected("':'"), &key));
            }
            self.space();
            let node = self.value(depth + 1).map_err(|error| within(error, &key))?;
            self.space();
            let (more, end) = (self.take(b','), self.take(b'}'));
            match (more, end) {
                (true, false) => members.push(Member { at, key, node }),
                (false, true) => {
                    members.push(Member { at, key, node });
                    return Ok(Value::Map(members));
                }
                (true, true) => {
                    self.at -= 1;
                    return Err(self.expected("a field name in quotes"));
                }
                (false, false) => return Err(within(self.expected("',' or '}'"), &key)),
            }
        }
    }
}

/// The error, seen from one level further out.
fn within(mut error: SyntaxError, segment: &str) -> SyntaxError {
    error.path = match error.path.chars().next() {
        None => segment.to_owned(),
        Some('[') => format!("{segment}{}", error.path),
        Some(_) => format!("{segment}.{}", error.path),
    };
    error
}
