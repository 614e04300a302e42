//! Names derived from the project and the business, and the rules they obey.

use std::{borrow::Cow, fmt::Write as _};

use anyhow::bail;
use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use crate::labels;

/// Longest business name, in characters.
pub const BUSINESS_MAX: usize = 20;
/// Longest Kubernetes label value, in characters.
pub const LABEL_MAX: usize = 63;
/// Longest object name in Cloud Storage, in bytes.
pub const OBJECT_MAX: usize = 1024;
/// Longest name of a file in a pack, in bytes.
pub const FILE_MAX: usize = 1024;
/// Shortest and longest service account id, in characters.
pub const ACCOUNT_ID: std::ops::RangeInclusive<usize> = 6..=30;

/// A name in the composed Unicode normal form, as most people type it; some systems decompose the names of files.
pub fn composed(name: &str) -> Cow<'_, str> {
    if name.is_ascii() { name.into() } else { name.nfc().collect::<String>().into() }
}

/// Whether two names are the same to people: equal but for the Unicode normal form.
pub fn is_same(one: &str, other: &str) -> bool {
    one == other || composed(one) == composed(other)
}

/// The first `chars` characters of the lower-case hexadecimal SHA-256 of the parts, each preceded by its length.
pub fn hash(parts: &[&str], chars: usize) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hexadecimal(&hasher.finalize(), chars)
}

/// The first `chars` characters of the lower-case hexadecimal SHA-256 of the bytes.
pub fn hash_bytes(bytes: &[u8], chars: usize) -> String {
    hexadecimal(&Sha256::digest(bytes), chars)
}

fn hexadecimal(bytes: &[u8], chars: usize) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text.truncate(chars);
    text
}

/// Name of the cluster of a project.
pub fn cluster(project: &str) -> String {
    format!("{project}-cluster")
}

/// Name of the bucket of a project.
pub fn bucket(project: &str) -> String {
    format!("{project}-bucket")
}

/// Name of the image registry of a project.
pub fn registry(project: &str) -> String {
    format!("{project}-images")
}

/// Id of a business's topic.
pub fn topic(project: &str, business: &str) -> String {
    format!("{project}-{business}-topic")
}

/// Id of a business's subscription.
pub fn subscription(project: &str, business: &str) -> String {
    format!("{project}-{business}-subscription")
}

/// Id of the filtered subscription that is drained first, for a business with `priority = true`.
pub fn priority_subscription(project: &str, business: &str) -> String {
    format!("{project}-{business}-priority-subscription")
}

/// Id of a business's events topic.
pub fn events_topic(project: &str, business: &str) -> String {
    format!("{project}-{business}-events-topic")
}

/// Namespace of a business.
pub fn namespace(business: &str) -> String {
    business.to_owned()
}

/// Name of the ready orchestrators of a namespace for the engines of its pool, also in their certificate.
pub fn pool_host(namespace: &str) -> String {
    format!("{}.{namespace}.svc", labels::POOL_SERVICE)
}

/// SRV name of the ready orchestrators of a namespace.
pub fn pool_service(namespace: &str) -> String {
    format!("_{}._tcp.{}", labels::POOL_SERVICE, pool_host(namespace))
}

/// Namespace of the web apps.
pub const WEB_NAMESPACE: &str = "deskgrid";

/// Id of a Google service account: `wanted`, shortened with a hash when it does not fit 6–30 characters.
pub fn account_id(wanted: &str) -> String {
    if ACCOUNT_ID.contains(&wanted.len()) {
        return wanted.to_owned();
    }
    let tail = hash(&[wanted], 6);
    let head: String = wanted.chars().take(ACCOUNT_ID.end() - 7).collect();
    format!("{}-{tail}", head.trim_end_matches('-'))
}

/// Email address of a Google service account.
pub fn account_email(id: &str, project: &str) -> String {
    format!("{id}@{project}.iam.gserviceaccount.com")
}

/// Checks a business name: a DNS label of at most 20 characters that no part of the system uses itself.
///
/// # Errors
/// When the name breaks a rule.
pub fn check_business(name: &str) -> anyhow::Result<()> {
    if name.is_empty() || name.len() > BUSINESS_MAX {
        bail!("a business name has 1 to {BUSINESS_MAX} characters, this one has {}", name.len());
    }
    if !is_dns_label(name) {
        bail!("a business name starts with a letter and has only lower-case letters, digits and inner hyphens");
    }
    let reserved = ["default", "deskgrid"].contains(&name)
        || ["kube-", "gke-", "gmp-", "kueue-"].iter().any(|prefix| name.starts_with(prefix))
        || name.ends_with("-events")
        || name.ends_with("-priority");
    if reserved {
        bail!("the name is reserved (default, deskgrid, kube-*, gke-*, gmp-*, kueue-*, *-events, *-priority)");
    }
    Ok(())
}

/// Checks a session name: a Kubernetes label value (at most 63 characters), not `refused`, which is where the
/// outcomes of refused messages live.
///
/// # Errors
/// When the name breaks a rule.
pub fn check_session(name: &str) -> anyhow::Result<()> {
    if !is_label_value(name) {
        bail!(
            "a session name has 1 to {LABEL_MAX} letters, digits, '-', '_' or '.', and begins and ends with a letter or digit"
        );
    }
    if name == "refused" {
        bail!("the session name 'refused' is reserved");
    }
    Ok(())
}

/// Checks a job id: part of an object name, so 1 to 512 bytes of UTF-8 without control characters, not starting or
/// ending with `/`, and without `.` or `..` or empty path segments.
///
/// # Errors
/// When the id breaks a rule.
pub fn check_job(id: &str) -> anyhow::Result<()> {
    check_path("a job id", id, 512)
}

/// Checks the name of a file in a pack: as a job id, with at most [`FILE_MAX`] bytes.
///
/// # Errors
/// When the name breaks a rule.
pub fn check_file(name: &str) -> anyhow::Result<()> {
    check_path("the name of a file", name, FILE_MAX)
}

fn check_path(what: &str, path: &str, most: usize) -> anyhow::Result<()> {
    if path.is_empty() || path.len() > most {
        bail!("{what} has 1 to {most} bytes, this one has {}", path.len());
    }
    if path.chars().any(char::is_control) {
        bail!("{what} has no control characters");
    }
    if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
        bail!("{what} has no empty, '.' or '..' path segments");
    }
    Ok(())
}

/// True for an RFC 1123 label that starts with a letter.
pub fn is_dns_label(name: &str) -> bool {
    name.len() <= LABEL_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// True for a non-empty Kubernetes label value.
pub fn is_label_value(value: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    value.len() <= LABEL_MAX
        && edge(value.chars().next())
        && edge(value.chars().next_back())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

/// `text` as a label value: itself when it is one, else what fits of it, followed by a hash of the whole.
pub fn label_value(text: &str) -> String {
    if is_label_value(text) {
        return text.to_owned();
    }
    let tail = hash(&[text], 10);
    let head: String = text
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '-' })
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(LABEL_MAX - 11)
        .collect();
    if head.is_empty() { tail } else { format!("{head}-{tail}") }
}

#[cfg(test)]
mod tests;
