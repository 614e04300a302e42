//! The three forms of message on a business's topic, and the work that each requests.

use std::{collections::BTreeMap, ops::Range};

use serde::{Deserialize, Serialize};

mod version_1;

use crate::{
    Identity,
    config::Business,
    labels, names, object,
    pack::{Format, Pack, Span},
    quantity,
};

/// Schema version of the messages this program writes about single inputs.
pub const SCHEMA: &str = "1";
/// Schema version of the messages this program writes about packs and ranges.
pub const SCHEMA_PACK: &str = "2";

/// Days for which a message waits for an orchestrator: Pub/Sub's longest by default.
pub const RETENTION_DAYS: i64 = 7;
/// Bytes that Pub/Sub accepts in the value of an attribute (cloud.google.com/pubsub/quotas).
pub const ATTRIBUTE_BYTES_MAX: usize = 1024;

/// An attempt may have this many times the memory and the time of the business's engines.
pub const RESOURCES_MAX_FACTOR: u64 = 8;

/// Resources of an attempt that differ from those of the business's engines.
#[derive(Clone, Debug, Default, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
pub struct Resources {
    /// Memory request and limit, as a Kubernetes quantity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Seconds a pod may run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_secs: Option<u32>,
}

impl Resources {
    /// Whether nothing differs.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the limits of the business.
    ///
    /// # Errors
    /// When an amount is invalid or too large.
    pub fn check(&self, business: &Business) -> Result<(), Refusal> {
        if let Some(memory) = &self.memory {
            let usual = quantity::bytes(&business.engine.memory).unwrap_or(u64::MAX / RESOURCES_MAX_FACTOR);
            match quantity::bytes(memory) {
                None => {
                    return Err(malformed(labels::ATTRIBUTE_MEMORY, memory, "an amount of memory such as 2Gi"));
                }
                Some(wanted) if wanted > usual.saturating_mul(RESOURCES_MAX_FACTOR) => {
                    let limit = format!("{RESOURCES_MAX_FACTOR} x {}", business.engine.memory);
                    return Err(too_much("memory", memory, &business.name, &limit));
                }
                Some(_) => {}
            }
        }
        let usual = u64::from(business.engine.timeout_secs);
        match self.timeout_secs {
            Some(0) => Err(malformed(labels::ATTRIBUTE_TIMEOUT, "0", "a number of seconds from 1")),
            Some(seconds) if u64::from(seconds) > usual * RESOURCES_MAX_FACTOR => {
                let limit = format!("{RESOURCES_MAX_FACTOR} x {usual} s");
                Err(too_much("a timeout", &format!("{seconds} s"), &business.name, &limit))
            }
            _ => Ok(()),
        }
    }
}

fn too_much(what: &str, wanted: &str, business: &str, limit: &str) -> Refusal {
    Refusal::new("over-limit", format!("{what} of {wanted} is more than an attempt of {business} may have ({limit})"))
}

fn malformed(attribute: &str, value: &str, wanted: &str) -> Refusal {
    Refusal::new("malformed-option", format!("the attribute {attribute}={value:?} is not {wanted}"))
}

/// A unit of work with a fixed identity. A Kubernetes Job is made from it.
#[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema, Serialize, Deserialize)]
#[serde(from = "version_1::Work")]
pub struct Work {
    /// It has exactly one outcome.
    #[serde(flatten)]
    pub identity: Identity,
    /// Business it belongs to.
    pub business: String,
    /// Session it was submitted in.
    pub session: String,
    /// Job id within the session.
    pub job: String,
    /// Who submitted it, if they said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The input is a pack. The identity names a range of it, or the work is the request to split it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pack: Option<Pack>,
    /// Of the items of the range, only these are computed: those that the attempt before left without a result. The
    /// orchestrator sets it when it creates the Job; no message carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Vec<u32>>,
    /// The range is this part of the input. The orchestrator sets it from the layout; no message carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Drained first.
    #[serde(default)]
    pub priority: bool,
    /// Names of the session's common data that the Job reads.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub common: Vec<String>,
    /// What this attempt is given other than the business's engines have.
    #[serde(default, skip_serializing_if = "Resources::is_default")]
    pub resources: Resources,
}

impl Work {
    /// Work without options.
    pub fn new(identity: Identity, business: &str, session: &str, job: &str) -> Self {
        Self {
            identity,
            business: business.to_owned(),
            session: session.to_owned(),
            job: job.to_owned(),
            client: None,
            pack: None,
            only: None,
            span: None,
            priority: false,
            common: Vec::new(),
            resources: Resources::default(),
        }
    }

    /// Name of the outcome object.
    pub fn outcome(&self) -> String {
        object::outcome(&self.business, &self.session, &self.job, &self.identity)
    }

    /// Name of the result object of a single input.
    pub fn output(&self) -> String {
        object::output(&self.business, &self.session, &self.job, &self.identity)
    }

    /// Name of a part of what the engine records of a range.
    pub fn part(&self, number: u32) -> String {
        object::part(&self.business, &self.session, &self.job, &self.identity, number)
    }

    /// Name of the object with the large results of that part.
    pub fn part_data(&self, number: u32) -> String {
        object::part_data(&self.business, &self.session, &self.job, &self.identity, number)
    }

    /// Name of the object with the result of an item that a pool computed, when it is not in the outcome.
    pub fn item_output(&self, index: u32) -> String {
        if self.pack.is_none() {
            return self.output();
        }
        object::item_output(&self.business, &self.session, &self.job, &self.identity, index)
    }

    /// The items of the range; `None` for a single input and for a whole pack.
    pub fn range(&self) -> Option<Range<u32>> {
        self.pack.as_ref()?.range(self.identity.first?)
    }

    /// The items to compute: of a range, those that have no result from an earlier attempt.
    pub fn items(&self) -> Vec<u32> {
        let range = self.range().unwrap_or_default();
        let is_wanted = |item: &u32| self.only.as_ref().is_none_or(|only| only.contains(item));
        range.filter(is_wanted).collect()
    }

    /// Names of the result objects of a single input: one, or one for each task of a Job that version 1 split.
    pub fn outputs(&self) -> Vec<String> {
        let output = self.output();
        match &self.pack {
            None => vec![output],
            Some(pack) => (0..pack.items).map(|task| format!("{output}/{task}")).collect(),
        }
    }

    /// Whether this is the request to split a pack into its ranges, or a Job that version 1 split into tasks.
    pub fn is_split_request(&self) -> bool {
        self.pack.is_some() && self.identity.first.is_none()
    }

    /// The work of the range that begins with this item.
    pub fn of_range(&self, first: u32) -> Self {
        self.of_attempt(first, self.identity.attempt)
    }

    /// The work of an attempt at the range that begins with this item.
    pub fn of_attempt(&self, first: u32, attempt: u32) -> Self {
        Self { identity: Identity { first: Some(first), attempt, ..self.identity.clone() }, ..self.clone() }
    }

    /// The custom metadata of the input object that carries the options of this work (see [`stored`]), the attempt
    /// among them when a person requested another one.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        let mut attributes = self.encode().1;
        attributes.remove(labels::ATTRIBUTE_DESKGRID);
        attributes.remove(labels::ATTRIBUTE_FIRST);
        attributes.into_iter().map(|(key, value)| (format!("{}{key}", labels::METADATA_PREFIX), value)).collect()
    }

    /// Checks that Pub/Sub accepts the message of this work.
    ///
    /// # Errors
    /// When an option is too long for an attribute; the refusal names this work.
    pub fn check_message(&self) -> Result<(), Refusal> {
        let attributes = self.encode().1;
        let Some((name, value)) = attributes.into_iter().find(|(_, value)| value.len() > ATTRIBUTE_BYTES_MAX) else {
            return Ok(());
        };
        let why = format!(
            "the attribute {name} of its message has {} bytes, and Pub/Sub accepts {ATTRIBUTE_BYTES_MAX}",
            value.len()
        );
        Err(Refusal { work: Some(Box::new(self.clone())), ..Refusal::new("message-too-large", why) })
    }

    /// The message that asks for this work: data and attributes.
    pub fn encode(&self) -> (Vec<u8>, BTreeMap<String, String>) {
        let mut attributes = BTreeMap::from([
            (labels::ATTRIBUTE_DESKGRID.to_owned(), if self.pack.is_some() { SCHEMA_PACK } else { SCHEMA }.to_owned()),
            (labels::ATTRIBUTE_SESSION.to_owned(), self.session.clone()),
            (labels::ATTRIBUTE_JOB.to_owned(), self.job.clone()),
        ]);
        if let Some(client) = &self.client {
            attributes.insert(labels::ATTRIBUTE_CLIENT.to_owned(), client.clone());
        }
        if let Some(pack) = &self.pack {
            attributes.insert(labels::ATTRIBUTE_PACK.to_owned(), pack.format.as_str().to_owned());
            for (attribute, number) in [
                (labels::ATTRIBUTE_ITEMS, pack.items),
                (labels::ATTRIBUTE_ITEMS_PER_RANGE, pack.items_per_range),
                (labels::ATTRIBUTE_ROWS_PER_ITEM, pack.rows_per_item),
            ] {
                attributes.insert(attribute.to_owned(), number.to_string());
            }
        }
        if let Some(first) = self.identity.first {
            attributes.insert(labels::ATTRIBUTE_FIRST.to_owned(), first.to_string());
        }
        if self.identity.attempt > 0 {
            attributes.insert(labels::ATTRIBUTE_ATTEMPT.to_owned(), self.identity.attempt.to_string());
        }
        if self.priority {
            attributes.insert(labels::ATTRIBUTE_PRIORITY.to_owned(), "true".to_owned());
        }
        if !self.common.is_empty() {
            attributes.insert(labels::ATTRIBUTE_COMMON.to_owned(), self.common.join(","));
        }
        if let Some(memory) = &self.resources.memory {
            attributes.insert(labels::ATTRIBUTE_MEMORY.to_owned(), memory.clone());
        }
        if let Some(seconds) = self.resources.timeout_secs {
            attributes.insert(labels::ATTRIBUTE_TIMEOUT.to_owned(), seconds.to_string());
        }
        let data = serde_json::json!({
            "bucket": self.identity.bucket,
            "object": self.identity.object,
            // Decimal text, as Cloud Storage's own JSON writes 64-bit integers.
            "generation": self.identity.generation.to_string(),
        });
        (data.to_string().into_bytes(), attributes)
    }
}

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run this; the generation is known.
    Run(Work),
    /// Run the live generation of this object; `work.identity.generation` is 0 until the lookup.
    RunLive(Work),
    /// The message's bytes are the payload: write them to the input that `work` names, then run it.
    /// `work.identity.generation` is 0 until they were written.
    Inline(Work),
    /// Nothing: the console made a folder.
    FolderMarker,
}

/// Why a message cannot be a Job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Stable reason code.
    pub code: &'static str,
    /// One sentence for a person.
    pub message: String,
    /// The work without its options, when an upload is refused for them: its outcome says so.
    pub work: Option<Box<Work>>,
}

impl Refusal {
    fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), work: None }
    }
}

/// A received message, as far as decoding needs it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Id given by Pub/Sub.
    pub message_id: &'a str,
    /// Payload.
    pub data: &'a [u8],
    /// Attributes.
    pub attributes: &'a BTreeMap<String, String>,
}

/// Tells what a message asks for.
///
/// # Errors
/// A [`Refusal`] when it can never be a Job of this business.
pub fn decode(message: Received<'_>, business: &Business) -> Result<Request, Refusal> {
    if message.attributes.contains_key(labels::ATTRIBUTE_DESKGRID) {
        decode_ours(message, business)
    } else if message.attributes.contains_key("eventType") && message.attributes.contains_key("bucketId") {
        decode_notification(message, business)
    } else {
        decode_inline(message, business)
    }
}

#[derive(Deserialize)]
struct Pointer {
    bucket: String,
    object: String,
    #[serde(default)]
    generation: Option<serde_json::Value>,
}

fn decode_ours(message: Received<'_>, business: &Business) -> Result<Request, Refusal> {
    let schema = &message.attributes[labels::ATTRIBUTE_DESKGRID];
    if schema != SCHEMA && schema != SCHEMA_PACK {
        return Err(Refusal::new(
            "unknown-schema",
            format!(
                "the attribute deskgrid={schema} is not a schema version this orchestrator knows ({SCHEMA}, {SCHEMA_PACK})"
            ),
        ));
    }
    let pointer: Pointer = serde_json::from_slice(message.data).map_err(|error| {
        Refusal::new("malformed-message", format!("the data is not {{bucket, object, generation}} as JSON: {error}"))
    })?;
    let generation = match &pointer.generation {
        None | Some(serde_json::Value::Null) => None,
        Some(value) => Some(parse_generation(value)?),
    };
    let mut work = locate(&pointer.bucket, &pointer.object, business)?;
    options(&mut work, message.attributes, business)?;
    if let Some(value) = message.attributes.get(labels::ATTRIBUTE_FIRST) {
        let first =
            value.parse().ok().filter(|first| work.pack.as_ref().is_some_and(|pack| pack.range(*first).is_some()));
        work.identity.first = Some(
            first.ok_or_else(|| malformed(labels::ATTRIBUTE_FIRST, value, "the first item of a range of its pack"))?,
        );
    }
    // Session and job come from the object's name; the attributes must agree.
    for (attribute, actual) in [(labels::ATTRIBUTE_SESSION, &work.session), (labels::ATTRIBUTE_JOB, &work.job)] {
        if let Some(value) = message.attributes.get(attribute).filter(|value| *value != actual) {
            return Err(Refusal::new(
                "malformed-message",
                format!("the attribute {attribute}={value:?} does not match the object's name, which has {actual:?}"),
            ));
        }
    }
    Ok(match generation {
        Some(generation) => {
            work.identity.generation = generation;
            Request::Run(work)
        }
        None => Request::RunLive(work),
    })
}

fn decode_notification(message: Received<'_>, business: &Business) -> Result<Request, Refusal> {
    let attribute = |name: &str| message.attributes.get(name).map(String::as_str).unwrap_or_default();
    let event = attribute("eventType");
    if event != "OBJECT_FINALIZE" {
        return Err(Refusal::new("wrong-event", format!("a notification of {event:?}; only OBJECT_FINALIZE is work")));
    }
    // The object's own metadata carries the options that a message of ours has as attributes.
    let resource = serde_json::from_slice::<Resource>(message.data).map_err(|error| {
        let why = match attribute("payloadFormat") {
            "NONE" => "it has no payload; the notification must have the payload format JSON_API_V1".to_owned(),
            _ => format!("its data is not the object's description as JSON: {error}"),
        };
        Refusal::new("malformed-message", format!("a storage notification has no options: {why}"))
    });
    let (bucket, object) = (attribute("bucketId"), attribute("objectId"));
    if resource.as_ref().is_ok_and(|resource| resource.size == "0")
        && bucket == business.bucket
        && object::is_folder_marker(&business.name, object)
    {
        return Ok(Request::FolderMarker);
    }
    let mut work = locate(bucket, object, business)?;
    work.identity.generation = parse_generation(&attribute("objectGeneration").into())?;
    with_options(work, resource?.metadata, business).map(Request::Run)
}

/// The work that an input object requests with its name, its generation and its metadata.
///
/// # Errors
/// A [`Refusal`] when it can never be a Job of this business.
pub fn stored(
    object: &str,
    generation: i64,
    metadata: &BTreeMap<String, String>,
    business: &Business,
) -> Result<Work, Refusal> {
    let mut work = locate(&business.bucket, object, business)?;
    work.identity.generation = generation;
    with_options(work, metadata.clone(), business)
}

/// Whether the metadata of an input has the options of its message.
pub fn has_options(metadata: &BTreeMap<String, String>) -> bool {
    metadata.keys().any(|key| key.starts_with(labels::METADATA_PREFIX))
}

/// The work of an input with the options in its metadata. A refusal names the work, so that it gets an outcome.
fn with_options(located: Work, metadata: BTreeMap<String, String>, business: &Business) -> Result<Work, Refusal> {
    let attributes = from_metadata(metadata);
    let mut work = located.clone();
    options(&mut work, &attributes, business).map(|()| work).map_err(|refusal| {
        let mut work = located;
        // As readers of the input count attempts.
        let attempt = attributes.get(labels::ATTRIBUTE_ATTEMPT).and_then(|text| text.parse().ok());
        work.identity.attempt = attempt.unwrap_or_default();
        Refusal { work: Some(Box::new(work)), ..refusal }
    })
}

/// The attributes in an input's custom metadata, without the metadata of other tools.
fn from_metadata(metadata: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let ours = |key: String| key.strip_prefix(labels::METADATA_PREFIX).map(str::to_owned);
    metadata.into_iter().filter_map(|(key, value)| Some((ours(key)?, value))).collect()
}

#[derive(Deserialize)]
struct Resource {
    /// Decimal text, as in all of Google's JSON.
    #[serde(default)]
    size: String,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
}

fn decode_inline(message: Received<'_>, business: &Business) -> Result<Request, Refusal> {
    if message.data.is_empty() {
        return Err(Refusal::new("empty-message", "the message has no data, so there is nothing to compute"));
    }
    if names::check_job(message.message_id).is_err() || message.message_id.contains('/') {
        return Err(Refusal::new("malformed-message", "the message id cannot be part of an object name"));
    }
    let object = object::input(&business.name, object::INLINE_SESSION, message.message_id);
    // The attributes are the publisher's own, whatever they are called.
    Ok(Request::Inline(locate(&business.bucket, &object, business)?))
}

fn parse_generation(value: &serde_json::Value) -> Result<i64, Refusal> {
    let parsed = match value {
        serde_json::Value::Number(number) => number.as_i64(),
        serde_json::Value::String(text) => text.parse().ok(),
        _ => None,
    };
    parsed.filter(|generation| *generation > 0).ok_or_else(|| {
        Refusal::new("malformed-generation", format!("the generation {value} is not a positive integer"))
    })
}

/// Checks that bucket and object belong to the business, and parses the object's name.
fn locate(bucket: &str, object: &str, business: &Business) -> Result<Work, Refusal> {
    if bucket != business.bucket {
        return Err(Refusal::new(
            "wrong-bucket",
            format!("the message names the bucket {bucket:?}, but {} uses {:?}", business.name, business.bucket),
        ));
    }
    let (session, job) = object::parse_input(&business.name, object)
        .map_err(|error| Refusal::new("wrong-object", format!("{error:#}")))?;
    let identity =
        Identity { bucket: bucket.to_owned(), object: object.to_owned(), generation: 0, first: None, attempt: 0 };
    Ok(Work::new(identity, &business.name, &session, &job))
}

fn options(work: &mut Work, attributes: &BTreeMap<String, String>, business: &Business) -> Result<(), Refusal> {
    work.client = attributes.get(labels::ATTRIBUTE_CLIENT).cloned();
    work.pack = pack(attributes, business)?;
    if let Some(value) = attributes.get(labels::ATTRIBUTE_ATTEMPT) {
        work.identity.attempt =
            value.parse().map_err(|_| malformed(labels::ATTRIBUTE_ATTEMPT, value, "a number from 0"))?;
    }
    if let Some(value) = attributes.get(labels::ATTRIBUTE_PRIORITY) {
        work.priority = value.parse().map_err(|_| malformed(labels::ATTRIBUTE_PRIORITY, value, "true or false"))?;
    }
    if let Some(value) = attributes.get(labels::ATTRIBUTE_COMMON) {
        work.common = value.split(',').map(str::to_owned).collect();
        if work.common.iter().any(|name| names::check_job(name).is_err()) {
            return Err(malformed(labels::ATTRIBUTE_COMMON, value, "a comma-separated list of object names"));
        }
    }
    work.resources.memory = attributes.get(labels::ATTRIBUTE_MEMORY).cloned();
    if let Some(value) = attributes.get(labels::ATTRIBUTE_TIMEOUT) {
        let seconds = value.parse().map_err(|_| malformed(labels::ATTRIBUTE_TIMEOUT, value, "a number of seconds"))?;
        work.resources.timeout_secs = Some(seconds);
    }
    work.resources.check(business)
}

/// The pack that attributes describe, also as version 1 did: a Job that is split into tasks.
fn pack(attributes: &BTreeMap<String, String>, business: &Business) -> Result<Option<Pack>, Refusal> {
    let number = |attribute: &str| -> Result<Option<u32>, Refusal> {
        let Some(value) = attributes.get(attribute) else { return Ok(None) };
        value.parse().map(Some).map_err(|_| malformed(attribute, value, "a number"))
    };
    let (format, items, rows) = match attributes.get(labels::ATTRIBUTE_PACK) {
        Some(word) => {
            let format = Format::parse(word);
            let known = || Format::ALL.map(Format::as_str).join(", ");
            let format =
                format.ok_or_else(|| malformed(labels::ATTRIBUTE_PACK, word, &format!("one of {}", known())))?;
            let missing = || malformed(labels::ATTRIBUTE_ITEMS, "", "the number of items of the pack");
            let items = number(labels::ATTRIBUTE_ITEMS)?.ok_or_else(missing)?;
            (format, items, number(labels::ATTRIBUTE_ROWS_PER_ITEM)?)
        }
        None => {
            let Some(tasks) = number(labels::ATTRIBUTE_TASKS)? else { return Ok(None) };
            let rows = number(labels::ATTRIBUTE_ROWS_PER_TASK)?;
            (if rows.is_some() { Format::Table } else { Format::Whole }, tasks, rows)
        }
    };
    let mut pack = Pack::new(format, items, rows.unwrap_or(1), business.ranges_at_once());
    pack.items_per_range = number(labels::ATTRIBUTE_ITEMS_PER_RANGE)?.unwrap_or(pack.items_per_range);
    pack.check().map_err(|why| Refusal::new("malformed-option", why))?;
    Ok(Some(pack))
}

#[cfg(test)]
mod tests;
