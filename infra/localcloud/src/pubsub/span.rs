//! A duration as Google's JSON has it: `"600s"`.

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub SignedDuration);

impl Span {
    /// So many seconds.
    pub const fn secs(secs: i64) -> Self {
        Self(SignedDuration::from_secs(secs))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let nanos = self.0.subsec_nanos();
        if nanos == 0 {
            serializer.serialize_str(&format!("{}s", self.0.as_secs()))
        } else {
            serializer.serialize_str(&format!("{}s", self.0.as_secs_f64()))
        }
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let secs = text.strip_suffix('s').and_then(|number| number.parse::<f64>().ok());
        let duration = secs.and_then(|secs| SignedDuration::try_from_secs_f64(secs).ok());
        duration.map(Self).ok_or_else(|| D::Error::custom(format!("{text:?} is not a duration such as \"10s\"")))
    }
}
