//! Certificates of the port at which the engines of a pool reach their orchestrators; pure but for `pool`.
//!
//! The Secret `pool-tls` of a business holds the certificate of its orchestrators (`tls.crt`, `tls.key`) and the
//! certificate authorities that engines trust (`ca.crt`). An engine may have `ca.crt` as it was before a renewal: a
//! kubelet renews the file after a minute or two, and an engine may keep what it read. So a renewal signs with an
//! authority that engines trusted before it: `ca.crt` always ends with an authority that has signed nothing yet, and
//! `next.key` is its key. A renewal signs with that key, forgets it, and adds a further authority. That is one write of
//! one Secret, so no step waits for another, and a run that is killed leaves the old or the new state:
//!
//! | | signs | engines trust |
//! | --- | --- | --- |
//! | first | A | A, B |
//! | second | B | A, B, C |
//! | third | C | B, C, D |
//!
//! An engine from before a renewal connects to an orchestrator from after it, and the reverse. A key that leaked is of
//! no use after two renewals, between which engines must have read `ca.crt`. Authorities may sign for the one name only.

use std::collections::BTreeMap;

use anyhow::Context as _;
use jiff::{ToSpan as _, civil::Date};
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, NameConstraints,
};
use serde::{Deserialize, Serialize};

pub(crate) mod pool;

pub use pool::check;

/// Annotation of the Secret with the [`Record`].
const RECORD: &str = "deskgrid.dev/certificate";
/// Days for which the certificate of the orchestrators is valid.
const VALID_DAYS: i32 = 365;
/// Days before its end from which on it is renewed.
const RENEW_DAYS: i32 = 30;
/// Days for which an authority is valid: it signs when the certificate before expires at the latest.
const AUTHORITY_DAYS: i32 = 3 * VALID_DAYS;
/// The last line of a certificate.
const END: &str = "-----END CERTIFICATE-----";

/// What is known of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The name that it is for.
    name: String,
    /// How many there were, itself included.
    serial: u64,
    /// Its last day.
    expires: Date,
}

/// What the Secret holds.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    record: Record,
    authorities: Vec<String>,
    next_key: String,
}

/// A new content of the Secret.
#[derive(Debug)]
struct Renewed {
    record: Record,
    /// Texts by key of the Secret.
    files: BTreeMap<&'static str, String>,
}

/// Reads a Secret; nothing when a part of it is missing, or it is for another name.
fn read(secret: &Secret, name: &str) -> Option<Held> {
    let text = |key: &str| {
        let bytes = &secret.data.as_ref()?.get(key)?.0;
        String::from_utf8(bytes.clone()).ok().filter(|text| !text.trim().is_empty())
    };
    let record: Record = serde_json::from_str(secret.metadata.annotations.as_ref()?.get(RECORD)?).ok()?;
    let bundle = text("ca.crt")?;
    let authorities: Vec<String> = bundle.split_inclusive(END).filter(|part| part.ends_with(END)).map(own).collect();
    (text("tls.crt").is_some() && text("tls.key").is_some() && record.name == name && authorities.len() >= 2)
        .then_some(Held { record, authorities, next_key: text("next.key")? })
}

fn own(part: &str) -> String {
    format!("{}\n", part.trim())
}

/// Whether there is no certificate, or it expires soon.
fn is_due(held: Option<&Held>, today: Date) -> bool {
    held.is_none_or(|held| days_after(today, RENEW_DAYS) >= held.record.expires)
}

/// Makes the certificate after this one, or a first one. The authorities of one that has expired are forgotten: no
/// engine is connected by it.
///
/// # Errors
/// When the key of the next authority is damaged.
fn renew(held: Option<&Held>, name: &str, serial: u64, today: Date) -> anyhow::Result<Renewed> {
    let (mut authorities, key) = match held.filter(|held| held.record.expires >= today) {
        Some(held) => {
            let key = KeyPair::from_pem(&held.next_key).context("read `next.key`; delete the Secret for a new one")?;
            (held.authorities[held.authorities.len() - 2..].to_vec(), key)
        }
        None => {
            let (authority, key) = authority(name, today)?;
            (vec![authority], key)
        }
    };
    let server_key = KeyPair::generate().context("make a key")?;
    let issuer = Issuer::new(authority_params(name, today)?, key);
    let server = server_params(name, today)?.signed_by(&server_key, &issuer).context("sign")?;
    let (next, next_key) = authority(name, today)?;
    authorities.push(next);
    let files = BTreeMap::from([
        ("tls.crt", server.pem()),
        ("tls.key", server_key.serialize_pem()),
        ("ca.crt", authorities.concat()),
        ("next.key", next_key.serialize_pem()),
    ]);
    Ok(Renewed { record: Record { name: name.to_owned(), serial, expires: days_after(today, VALID_DAYS) }, files })
}

/// An authority of this name, and its key.
fn authority(name: &str, today: Date) -> anyhow::Result<(String, KeyPair)> {
    let key = KeyPair::generate().context("make a key")?;
    let certificate = authority_params(name, today)?.self_signed(&key).context("sign")?;
    Ok((own(&certificate.pem()), key))
}

fn authority_params(name: &str, today: Date) -> anyhow::Result<CertificateParams> {
    let mut params = params(Vec::new(), "deskgrid pool authority", today, AUTHORITY_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(name.to_owned())],
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

fn server_params(name: &str, today: Date) -> anyhow::Result<CertificateParams> {
    let mut params = params(vec![name.to_owned()], "deskgrid orchestrator", today, VALID_DAYS)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(names: Vec<String>, common_name: &str, today: Date, valid_days: i32) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("name a certificate")?;
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day earlier, since clocks differ.
    let midnight = |days| {
        let date = days_after(today, days);
        rcgen::date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
    };
    params.not_before = midnight(-1);
    params.not_after = midnight(valid_days + 1);
    Ok(params)
}

fn days_after(date: Date, days: i32) -> Date {
    date.saturating_add(days.days())
}

#[cfg(test)]
mod tests;
