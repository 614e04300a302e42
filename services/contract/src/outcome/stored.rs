//! Outcomes in the bucket. Other programs with write access may damage one, so an unreadable outcome is no error: it
//! counts as a failed Job whose reason names the object.

use super::{Outcome, State};
use crate::{Identity, message::Work, object, pack::SCHEMA};

/// Maximum size of an outcome object in bytes: a refused message of 10 MB in base64, and the other fields.
pub const BYTES_MAX: usize = 32 * 1024 * 1024;
/// Reason code in place of an outcome that cannot be read.
pub const UNREADABLE: &str = "unreadable-outcome";

/// An object that is not an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Name of the object.
    pub object: String,
    /// Why.
    pub why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "\"{}\" is not an outcome: {}", self.object, self.why)
    }
}

impl std::error::Error for Unreadable {}

impl Unreadable {
    /// The outcome to use instead: a failed Job. Its work has the identity from the object's name, and no options, so
    /// no retry may be made from it.
    pub fn outcome(&self, bucket: &str) -> Outcome {
        let business = self.object.split('/').next().unwrap_or_default();
        let mut outcome = Outcome::new(business, State::Failed, UNREADABLE, self.to_string());
        if let Some(name) = object::parse_outcome(business, &self.object) {
            let object = object::input(business, &name.session, &name.job);
            let (generation, first, attempt) = (name.generation, name.first, name.attempt);
            let identity = Identity { bucket: bucket.to_owned(), object, generation, first, attempt };
            outcome.work = Some(Work::new(identity, business, &name.session, &name.job));
        } else {
            outcome.message_id = object::parse_refused(business, &self.object).map(str::to_owned);
        }
        outcome
    }
}

impl Outcome {
    /// Reads the outcome from an object of this name.
    ///
    /// # Errors
    /// When it is damaged, has a later schema version, or belongs to another Job than its name says.
    pub fn parse(object: &str, body: &[u8]) -> Result<Self, Unreadable> {
        let unreadable = |why: String| Unreadable { object: object.to_owned(), why };
        let outcome: Self = serde_json::from_slice(body).map_err(|error| unreadable(error.to_string()))?;
        if outcome.schema > SCHEMA {
            return Err(unreadable(format!("its schema version is {}, this program knows {SCHEMA}", outcome.schema)));
        }
        match &outcome.work {
            Some(work) if work.outcome() != object => {
                Err(unreadable(format!("it is the outcome of {}", work.outcome())))
            }
            None if object::parse_refused(&outcome.business, object).is_none() => {
                Err(unreadable("it does not name its Job".to_owned()))
            }
            _ => Ok(outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "bu1/outcome/s/j/7-2.json";

    fn outcome() -> Outcome {
        Unreadable { object: OBJECT.to_owned(), why: String::new() }.outcome("b")
    }

    fn why(object: &str, body: &[u8]) -> String {
        let unreadable = Outcome::parse(object, body).unwrap_err();
        assert!(unreadable.to_string().contains(object), "{unreadable}");
        unreadable.why
    }

    #[test]
    fn an_outcome_is_that_of_its_name_and_of_a_known_schema() {
        let body = serde_json::to_vec(&outcome()).unwrap();
        assert_eq!(Outcome::parse(OBJECT, &body), Ok(outcome()));
        assert!(why("bu1/outcome/s/other/7-2.json", &body).contains(OBJECT), "foreign");
        assert!(why(OBJECT, &body[..body.len() - 1]).contains("EOF"), "cut");
        for foreign in ["", "null", "[]", "{}", "\"text\"", "{\"state\":\"succeeded\"}", "\u{0}"] {
            assert!(!why(OBJECT, foreign.as_bytes()).is_empty(), "{foreign:?}");
        }
        let newer = serde_json::to_vec(&Outcome { schema: SCHEMA + 1, ..outcome() }).unwrap();
        assert!(why(OBJECT, &newer).contains("schema"));
        let nobodys = serde_json::to_vec(&Outcome { work: None, ..outcome() }).unwrap();
        assert!(why(OBJECT, &nobodys).contains("its Job"));
        assert!(Outcome::parse("bu1/outcome/refused/21.json", &nobodys).is_ok());
    }

    #[test]
    fn what_stands_in_is_counted_as_failed_and_names_its_job() {
        let one = outcome();
        let work = one.work.as_ref().unwrap();
        assert_eq!((work.outcome().as_str(), one.state), (OBJECT, State::Failed));
        assert_eq!(one.reason.code, UNREADABLE);
        let refused = Unreadable { object: "bu1/outcome/refused/21.json".into(), why: "why".into() }.outcome("b");
        assert_eq!((refused.work, refused.message_id.as_deref()), (None, Some("21")));
        let foreign = Unreadable { object: "bu1/outcome/readme".into(), why: "why".into() }.outcome("b");
        assert_eq!((foreign.work, foreign.message_id), (None, None));
    }
}
