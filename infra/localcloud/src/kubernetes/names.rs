//! Rules for names, labels and annotations, with the messages of the real API server.

use rand::RngExt as _;
use serde_json::{Value, json};

use super::{
    failure::Cause,
    kinds::{self, Kind},
    value,
};

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
     '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
     '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex \
     used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
     with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
/// Most bytes of all annotations of an object.
const ANNOTATIONS: usize = 256 * 1024;

/// What is wrong with the metadata of an object of this kind.
pub fn check(kind: &Kind, object: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let name = value::name(object);
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if let Some(why) = name_fault(kind, name) {
        causes.push(Cause::invalid("metadata.name", &json!(name), why));
    }
    check_labels(object.pointer("/metadata/labels"), "metadata.labels", &mut causes);
    let mut bytes = 0;
    for (key, text) in value::entries(object, "/metadata/annotations") {
        bytes += key.len() + text.len();
        if let Some(why) = qualified_fault(key) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), why));
        }
    }
    if bytes > ANNOTATIONS {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".to_owned(),
            message: format!("Too long: may not be more than {ANNOTATIONS} bytes"),
        });
    }
    for finalizer in value::items(object, "/metadata/finalizers") {
        if let Some(why) = qualified_fault(finalizer.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid("metadata.finalizers", finalizer, why));
        }
    }
    for (index, owner) in value::items(object, "/metadata/ownerReferences").iter().enumerate() {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if value::text(owner, &format!("/{field}")).is_empty() {
                let field = format!("metadata.ownerReferences[{index}].{field}");
                causes.push(Cause::invalid(field, &json!(""), "must not be empty"));
            }
        }
    }
    causes
}

/// What is wrong with a map of labels.
pub fn check_labels(labels: Option<&Value>, field: &str, causes: &mut Vec<Cause>) {
    for (key, label) in labels.and_then(Value::as_object).into_iter().flatten() {
        if let Some(why) = qualified_fault(key) {
            causes.push(Cause::invalid(field, &json!(key), why));
        }
        if let Some(why) = label_fault(label.as_str().unwrap_or_default()) {
            causes.push(Cause::invalid(field, label, why));
        }
    }
}

/// `base` with five random characters, as `generateName` makes names.
pub fn generate(base: &str) -> String {
    let base: String = base.chars().take(58).collect();
    format!("{base}{}", random_suffix())
}

/// Five characters of the alphabet that Kubernetes draws names from.
pub fn random_suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| char::from(ALPHABET[random.random_range(0..ALPHABET.len())])).collect()
}

/// A random UUID, version 4.
pub fn uid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

/// Whether the text is a DNS label: at most 63 of `[a-z0-9-]`, with no dash at an end.
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= 63 && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

fn name_fault(kind: &Kind, name: &str) -> Option<&'static str> {
    if kind.group == kinds::ROLE.group {
        let wrong = name == "." || name == ".." || name.contains(['/', '%']);
        return wrong.then_some("may not contain '/' or '%'");
    }
    if kind == &kinds::NAMESPACE || kind == &kinds::SERVICE {
        return (!is_label(name)).then_some(LABEL);
    }
    let part = |part: &str| {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
    };
    (name.len() > 253 || !name.split('.').all(part)).then_some(SUBDOMAIN)
}

fn label_fault(text: &str) -> Option<&'static str> {
    if text.len() > 63 {
        return Some("must be no more than 63 characters");
    }
    (!text.is_empty() && !is_qualified_name(text)).then_some(LABEL_VALUE)
}

fn qualified_fault(key: &str) -> Option<&'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters");
    }
    if !is_qualified_name(name) {
        return Some(QUALIFIED);
    }
    prefix.and_then(|prefix| name_fault(&kinds::POD, prefix))
}

fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    ends(bytes.first())
        && ends(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}
