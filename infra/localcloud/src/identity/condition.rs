//! IAM conditions: the part of CEL that people use in bindings. What it cannot parse is refused when a policy is set.

mod parse;

use std::collections::BTreeMap;

use jiff::Timestamp;

pub use parse::parse;

/// A parsed condition.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// `a || b`
    Or(Box<Expression>, Box<Expression>),
    /// `a && b`
    And(Box<Expression>, Box<Expression>),
    /// `!a`
    Not(Box<Expression>),
    /// `a == b` and its like.
    Compare(Box<Expression>, Operator, Box<Expression>),
    /// `a.startsWith(b)` and its like.
    Test(Box<Expression>, Test, Box<Expression>),
    /// `true` or `false`.
    Truth(bool),
    /// A string.
    Text(String),
    /// `timestamp("…")`
    Time(Timestamp),
    /// `resource.name` and its like.
    Variable(Variable),
    /// `api.getAttribute(name, default)`
    Attribute(String, String),
}

/// Comparison operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// Tests of one string against another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `startsWith`
    StartsWith,
    /// `endsWith`
    EndsWith,
    /// `contains`
    Contains,
}

/// What a condition may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `resource.name`
    Name,
    /// `resource.type`
    Type,
    /// `resource.service`
    Service,
    /// `request.time`
    Time,
}

/// What a condition is evaluated over.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    /// `resource.name`
    pub name: &'a str,
    /// `resource.type`
    pub kind: &'a str,
    /// `resource.service`
    pub service: &'a str,
    /// `request.time`
    pub time: Timestamp,
    /// `api.getAttribute`
    pub attributes: &'a BTreeMap<&'static str, String>,
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Value {
    Truth(bool),
    Text(String),
    Time(Timestamp),
}

/// Kind of value an expression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A truth value.
    Truth,
    /// A string.
    Text,
    /// A time.
    Time,
}

impl Expression {
    /// True when the condition holds. Types were checked when it was parsed.
    pub fn holds(&self, context: &Context<'_>) -> bool {
        self.value(context) == Value::Truth(true)
    }

    fn value(&self, context: &Context<'_>) -> Value {
        match self {
            Self::Or(left, right) => Value::Truth(left.holds(context) || right.holds(context)),
            Self::And(left, right) => Value::Truth(left.holds(context) && right.holds(context)),
            Self::Not(inner) => Value::Truth(!inner.holds(context)),
            Self::Compare(left, operator, right) => {
                let (left, right) = (left.value(context), right.value(context));
                Value::Truth(match operator {
                    Operator::Equal => left == right,
                    Operator::NotEqual => left != right,
                    Operator::Less => left < right,
                    Operator::LessOrEqual => left <= right,
                    Operator::Greater => left > right,
                    Operator::GreaterOrEqual => left >= right,
                })
            }
            Self::Test(subject, test, argument) => {
                let (Value::Text(subject), Value::Text(argument)) = (subject.value(context), argument.value(context))
                else {
                    return Value::Truth(false);
                };
                Value::Truth(match test {
                    Test::StartsWith => subject.starts_with(&argument),
                    Test::EndsWith => subject.ends_with(&argument),
                    Test::Contains => subject.contains(&argument),
                })
            }
            Self::Truth(truth) => Value::Truth(*truth),
            Self::Text(text) => Value::Text(text.clone()),
            Self::Time(time) => Value::Time(*time),
            Self::Variable(Variable::Name) => Value::Text(context.name.to_owned()),
            Self::Variable(Variable::Type) => Value::Text(context.kind.to_owned()),
            Self::Variable(Variable::Service) => Value::Text(context.service.to_owned()),
            Self::Variable(Variable::Time) => Value::Time(context.time),
            Self::Attribute(name, default) => {
                Value::Text(context.attributes.get(name.as_str()).unwrap_or(default).clone())
            }
        }
    }

    /// Kind of value, or what is wrong with the types inside.
    fn kind(&self) -> Result<Kind, String> {
        let need = |inner: &Self, kind: Kind| match inner.kind()? {
            found if found == kind => Ok(()),
            found => Err(format!("found {found:?} where {kind:?} was expected")),
        };
        match self {
            Self::Or(left, right) | Self::And(left, right) => {
                need(left, Kind::Truth)?;
                need(right, Kind::Truth)?;
                Ok(Kind::Truth)
            }
            Self::Not(inner) => need(inner, Kind::Truth).map(|()| Kind::Truth),
            Self::Compare(left, _, right) => need(right, left.kind()?).map(|()| Kind::Truth),
            Self::Test(subject, _, argument) => {
                need(subject, Kind::Text)?;
                need(argument, Kind::Text)?;
                Ok(Kind::Truth)
            }
            Self::Truth(_) => Ok(Kind::Truth),
            Self::Text(_) | Self::Attribute(..) => Ok(Kind::Text),
            Self::Time(_) => Ok(Kind::Time),
            Self::Variable(Variable::Time) => Ok(Kind::Time),
            Self::Variable(_) => Ok(Kind::Text),
        }
    }
}

#[cfg(test)]
mod tests;
