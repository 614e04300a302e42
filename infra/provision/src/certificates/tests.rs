//! Certificates of the pool, verified as an engine does.

use std::{sync::Arc, time::Duration};

use jiff::civil::date;
use k8s_openapi::ByteString;
use rustls::{
    RootCertStore,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use serde_json::json;

use super::*;

const NAME: &str = "pool.bu1.svc";
const MADE: Date = date(2026, 11, 30);

/// The Secret with this content.
fn secret(renewed: &Renewed) -> Secret {
    let mut secret: Secret =
        serde_json::from_value(json!({"metadata": {"annotations": {RECORD: json!(renewed.record).to_string()}}}))
            .unwrap();
    let data = renewed.files.iter().map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes())));
    secret.data = Some(data.collect());
    secret
}

/// The renewals of these days, one after another.
fn renewals(days: &[Date]) -> Vec<Renewed> {
    let mut all: Vec<Renewed> = Vec::new();
    for (serial, day) in (1..).zip(days) {
        let held = all.last().map(|last| read(&secret(last), NAME).unwrap());
        all.push(renew(held.as_ref(), NAME, serial, *day).unwrap());
    }
    all
}

/// Whether an engine with the authorities of one renewal connects to an orchestrator with the certificate of another.
fn connects(engine: &Renewed, orchestrator: &Renewed, name: &str, today: Date) -> bool {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(engine.files["ca.crt"].as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let certificate = CertificateDer::from_pem_slice(orchestrator.files["tls.crt"].as_bytes()).unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let noon = today.at(12, 0, 0, 0).in_tz("UTC").unwrap().timestamp().as_second();
    let now = UnixTime::since_unix_epoch(Duration::from_secs(noon.unsigned_abs()));
    verifier.verify_server_cert(&certificate, &[], &name, &[], now).is_ok()
}

#[test]
fn engines_and_orchestrators_of_both_sides_of_a_renewal_connect() {
    let all = renewals(&[MADE, MADE, MADE, MADE]);
    for (engine, orchestrator) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (2, 3), (3, 2)] {
        let works = connects(&all[engine], &all[orchestrator], NAME, MADE);
        assert!(works, "an engine of renewal {engine} to an orchestrator of renewal {orchestrator}");
    }
    assert!(!connects(&all[2], &all[0], NAME, MADE), "two renewals take the trust away");
    assert!(!connects(&all[0], &all[0], "pool.bu2.svc", MADE));
}

#[test]
fn a_certificate_is_valid_for_a_year_and_renewed_thirty_days_before() {
    let first = &renewals(&[MADE])[0];
    assert_eq!(first.record, Record { name: NAME.to_owned(), serial: 1, expires: date(2027, 11, 30) });
    let held = read(&secret(first), NAME);
    assert!(!is_due(held.as_ref(), MADE) && !is_due(held.as_ref(), date(2027, 10, 30)));
    assert!(is_due(held.as_ref(), date(2027, 10, 31)) && is_due(None, MADE));
    assert!(connects(first, first, NAME, date(2026, 11, 29)), "clocks differ");
    assert!(connects(first, first, NAME, date(2027, 11, 30)) && !connects(first, first, NAME, date(2027, 12, 2)));
    // An engine of the first day connects to what its renewal signed, to the last day of that.
    let all = renewals(&[MADE, date(2027, 11, 30)]);
    assert!(connects(&all[0], &all[1], NAME, date(2028, 11, 29)));
}

#[test]
fn the_authorities_of_an_expired_certificate_are_forgotten() {
    let all = renewals(&[MADE, date(2027, 12, 1)]);
    assert_eq!(all[1].files["ca.crt"].matches(END).count(), 2);
    assert!(!connects(&all[0], &all[1], NAME, date(2027, 12, 1)));
}

#[test]
fn a_secret_that_lacks_a_part_or_is_for_another_name_does_not_count() {
    let first = &renewals(&[MADE])[0];
    assert_eq!(read(&secret(first), NAME).map(|held| held.record), Some(first.record.clone()));
    assert_eq!(read(&secret(first), "pool.bu2.svc"), None);
    for key in first.files.keys() {
        let mut damaged = secret(first);
        damaged.data.as_mut().unwrap().remove(*key);
        assert_eq!(read(&damaged, NAME), None, "{key}");
    }
    let mut without_record = secret(first);
    without_record.metadata.annotations = None;
    assert_eq!(read(&without_record, NAME), None);
}
