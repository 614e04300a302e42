//! Parser of conditions: text in, checked expression or a sentence out.

use super::{Expression, Kind, Operator, Test, Variable};

/// Deepest nesting of parentheses and negations.
const DEPTH_MAX: usize = 64;

/// Parses a condition and checks that it is a truth value.
///
/// # Errors
/// Says what cannot be understood and where.
pub fn parse(text: &str) -> Result<Expression, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expression = parser.or()?;
    if let Some(token) = parser.peek() {
        return Err(format!("unexpected {token:?}"));
    }
    match expression.kind()? {
        Kind::Truth => Ok(expression),
        kind => Err(format!("expression of type {kind:?} where a truth value was expected")),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Sign(&'static str),
}

const SIGNS: [&str; 13] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", ".", ","];

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        } else if first == '"' || first == '\'' {
            let (value, after) = string(&rest[1..], first)?;
            tokens.push(Token::Text(value));
            rest = after;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..end].to_owned()));
            rest = &rest[end..];
        } else {
            return Err(format!("unexpected character {first:?}"));
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

fn string(text: &str, quote: char) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            c if c == quote => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '"' | '\'' | '/' | '?'))) => value.push(c),
                _ => return Err("unknown escape in a string".to_owned()),
            },
            c => value.push(c),
        }
    }
    Err("unterminated string".to_owned())
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, sign: &str) -> Result<(), String> {
        if self.take(sign) { Ok(()) } else { Err(format!("expected {sign:?}, found {:?}", self.peek())) }
    }

    fn or(&mut self) -> Result<Expression, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("nested too deeply".to_owned());
        }
        let mut left = self.and()?;
        while self.take("||") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut left = self.relation()?;
        while self.take("&&") {
            left = Expression::And(Box::new(left), Box::new(self.relation()?));
        }
        Ok(left)
    }

    fn relation(&mut self) -> Result<Expression, String> {
        let left = self.unary()?;
        let operator = match self.peek() {
            Some(Token::Sign("==")) => Operator::Equal,
            Some(Token::Sign("!=")) => Operator::NotEqual,
            Some(Token::Sign("<")) => Operator::Less,
            Some(Token::Sign("<=")) => Operator::LessOrEqual,
            Some(Token::Sign(">")) => Operator::Greater,
            Some(Token::Sign(">=")) => Operator::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.at += 1;
        Ok(Expression::Compare(Box::new(left), operator, Box::new(self.unary()?)))
    }

    fn unary(&mut self) -> Result<Expression, String> {
        let mut negated = false;
        while self.take("!") {
            negated = !negated;
        }
        let inner = self.postfix()?;
        Ok(if negated { Expression::Not(Box::new(inner)) } else { inner })
    }

    fn postfix(&mut self) -> Result<Expression, String> {
        let mut subject = self.primary()?;
        while self.take(".") {
            let test = match self.name()?.as_str() {
                "startsWith" => Test::StartsWith,
                "endsWith" => Test::EndsWith,
                "contains" => Test::Contains,
                other => return Err(format!("undeclared reference to '{other}'")),
            };
            self.need("(")?;
            let argument = self.or()?;
            self.need(")")?;
            subject = Expression::Test(Box::new(subject), test, Box::new(argument));
        }
        Ok(subject)
    }

    fn name(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            other => Err(format!("expected a name, found {other:?}")),
        }
    }

    fn text(&mut self) -> Result<String, String> {
        match self.peek() {
            Some(Token::Text(text)) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            other => Err(format!("expected a string, found {other:?}")),
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        if self.take("(") {
            let inner = self.or()?;
            self.need(")")?;
            return Ok(inner);
        }
        if matches!(self.peek(), Some(Token::Text(_))) {
            return self.text().map(Expression::Text);
        }
        let name = self.name()?;
        match name.as_str() {
            "true" => Ok(Expression::Truth(true)),
            "false" => Ok(Expression::Truth(false)),
            "timestamp" => {
                self.need("(")?;
                let text = self.text()?;
                self.need(")")?;
                text.parse().map(Expression::Time).map_err(|_| format!("{text:?} is not a timestamp"))
            }
            "resource" | "request" => {
                self.need(".")?;
                let field = self.name()?;
                Ok(Expression::Variable(match (name.as_str(), field.as_str()) {
                    ("resource", "name") => Variable::Name,
                    ("resource", "type") => Variable::Type,
                    ("resource", "service") => Variable::Service,
                    ("request", "time") => Variable::Time,
                    _ => return Err(format!("undefined field '{name}.{field}'")),
                }))
            }
            "api" => {
                self.need(".")?;
                if self.name()? != "getAttribute" {
                    return Err("undefined field of 'api'".to_owned());
                }
                self.need("(")?;
                let attribute = self.text()?;
                self.need(",")?;
                let default = self.text()?;
                self.need(")")?;
                Ok(Expression::Attribute(attribute, default))
            }
            _ => Err(format!("undeclared reference to '{name}'")),
        }
    }
}
