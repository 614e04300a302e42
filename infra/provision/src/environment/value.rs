//! What a single value of the environment file must look like; each error completes "… is VALUE, but".

use contract::{names, quantity};

/// A project id.
pub(super) fn project(text: &str) -> Result<String, String> {
    let rule = "a project id has 6 to 30 lower-case letters, digits and hyphens, starts with a letter and does not end with a hyphen";
    if (6..=30).contains(&text.len()) && names::is_dns_label(text) { Ok(text.to_owned()) } else { Err(rule.into()) }
}

/// A region, like `europe-west1`.
pub(super) fn region(text: &str) -> Result<String, String> {
    if is_region(text) {
        return Ok(text.to_owned());
    }
    match text.rsplit_once('-') {
        Some((region, zone)) if zone.len() == 1 && is_region(region) => {
            Err(format!("this is a zone; write {region:?} here and the zone as `zone`"))
        }
        _ => Err("a region looks like \"europe-west1\"".into()),
    }
}

/// A zone, like `europe-west1-b`.
pub(super) fn zone(text: &str) -> Result<String, String> {
    match text.rsplit_once('-') {
        Some((region, letter))
            if is_region(region) && letter.len() == 1 && letter.starts_with(|c: char| c.is_ascii_lowercase()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("a zone looks like \"europe-west1-b\"".into()),
    }
}

fn is_region(text: &str) -> bool {
    let Some((area, place)) = text.split_once('-') else { return false };
    let letters = place.trim_end_matches(|c: char| c.is_ascii_digit());
    let lower = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase());
    lower(area) && lower(letters) && letters.len() < place.len()
}

/// A bucket name.
pub(super) fn bucket(text: &str) -> Result<String, String> {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if !(3..=63).contains(&text.len())
        || !text.chars().all(allowed)
        || !edge(text.chars().next())
        || !edge(text.chars().next_back())
    {
        return Err("a bucket name has 3 to 63 lower-case letters, digits, '-', '_' and '.', and begins and ends with a letter or digit".into());
    }
    if text.starts_with("goog") || text.contains("google") {
        return Err("a bucket name may not begin with \"goog\" or contain \"google\"".into());
    }
    Ok(text.to_owned())
}

/// The name of a cluster, a node pool or a registry.
pub(super) fn resource(text: &str) -> Result<String, String> {
    if names::is_dns_label(text) && text.len() <= 40 {
        Ok(text.to_owned())
    } else {
        Err("a name here has 1 to 40 lower-case letters, digits and inner hyphens, and starts with a letter".into())
    }
}

/// What ids of custom roles begin with.
pub(super) fn role_prefix(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    if (1..=40).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err("it has 1 to 40 letters, digits, '_' and '.'".into())
    }
}

/// The id of a topic or subscription.
pub(super) fn pubsub(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~' | '+' | '%');
    if (3..=255).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(allowed)
        && !text.starts_with("goog")
    {
        Ok(text.to_owned())
    } else {
        Err("a topic or subscription has 3 to 255 letters, digits and \"-._~+%\", starts with a letter and not with \"goog\"".into())
    }
}

/// A Kubernetes namespace.
pub(super) fn namespace(text: &str) -> Result<String, String> {
    let reserved = ["default", names::WEB_NAMESPACE].contains(&text)
        || ["kube-", "gke-", "gmp-", "kueue-"].iter().any(|prefix| text.starts_with(prefix));
    if reserved {
        return Err("this namespace is not for businesses".into());
    }
    label(text)
}

/// A DNS label.
pub(super) fn label(text: &str) -> Result<String, String> {
    if names::is_dns_label(text) {
        Ok(text.to_owned())
    } else {
        Err("a name here has 1 to 63 lower-case letters, digits and inner hyphens, and starts with a letter".into())
    }
}

/// A service account: an id of this project, or the email of any.
pub(super) fn account(text: &str) -> Result<String, String> {
    let valid = match text.split_once('@') {
        Some((id, domain)) => !id.is_empty() && domain.ends_with(".gserviceaccount.com") && !text.contains([' ', ':']),
        None => names::ACCOUNT_ID.contains(&text.len()) && names::is_dns_label(text),
    };
    if valid {
        Ok(text.to_owned())
    } else {
        Err("a service account is an id of 6 to 30 lower-case letters, digits and hyphens, or an email ending in .gserviceaccount.com".into())
    }
}

/// Key of a Google label.
pub(super) fn google_label_key(text: &str) -> Result<(), String> {
    use contract::labels as names;
    let reserved = [names::GOOGLE_MANAGED_BY, names::GOOGLE_ENVIRONMENT, names::GOOGLE_ALERT, names::BUSINESS];
    if reserved.contains(&text) {
        return Err("this label is set by Deskgrid itself".into());
    }
    if text.starts_with(|c: char| c.is_ascii_lowercase()) && google_label_value(text).is_ok() {
        Ok(())
    } else {
        Err("a label has 1 to 63 lower-case letters, digits, '-' and '_', and starts with a letter".into())
    }
}

/// Value of a Google label.
pub(super) fn google_label_value(text: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if text.len() <= 63 && text.chars().all(allowed) {
        Ok(())
    } else {
        Err("the value of a label has at most 63 lower-case letters, digits, '-' and '_'".into())
    }
}

/// A KMS key.
pub(super) fn kms_key(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts.as_slice() {
        ["projects", p, "locations", l, "keyRings", r, "cryptoKeys", k]
            if [p, l, r, k].iter().all(|p| !p.is_empty()) =>
        {
            Ok(text.to_owned())
        }
        _ => Err("a key looks like \"projects/P/locations/L/keyRings/R/cryptoKeys/K\"".into()),
    }
}

/// An image reference.
pub(super) fn image(text: &str) -> Result<String, String> {
    if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) || text.contains("://") {
        Err("an image looks like \"REGION-docker.pkg.dev/PROJECT/REGISTRY/NAME@sha256:…\"".into())
    } else {
        Ok(text.to_owned())
    }
}

/// A network: a name, or the full name of one of any project.
pub(super) fn network(text: &str) -> Result<String, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] | ["projects", _, "global", "networks", name] if names::is_dns_label(name) => Ok(text.to_owned()),
        _ => Err("a network looks like \"hpc\", or \"projects/HOST/global/networks/hpc\" in another project".into()),
    }
}

/// A subnetwork: a name, or the full name of one of any project.
pub(super) fn subnetwork(text: &str) -> Result<String, String> {
    match text.split('/').collect::<Vec<_>>().as_slice() {
        [name] | ["projects", _, "regions", _, "subnetworks", name] if names::is_dns_label(name) => Ok(text.to_owned()),
        _ => Err("a subnetwork looks like \"hpc\", or \"projects/HOST/regions/REGION/subnetworks/hpc\"".into()),
    }
}

/// Any text but an empty one.
pub(super) fn filled(text: &str) -> Result<String, String> {
    if text.trim().is_empty() { Err("it must not be empty".into()) } else { Ok(text.to_owned()) }
}

/// A positive Kubernetes quantity.
pub(super) fn quantity(text: &str) -> Result<String, String> {
    match quantity::bytes(text) {
        Some(_) => Ok(text.to_owned()),
        None => Err("a quantity looks like \"500m\", \"2\" or \"512Mi\"".into()),
    }
}

/// Bytes from a Kubernetes quantity such as `64Mi`, at most 1 GiB: a result is held in memory.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    match quantity::bytes(text) {
        Some(bytes @ 1..=0x4000_0000) => Ok(bytes),
        Some(_) => Err("it must be from 1 byte to 1Gi".into()),
        None => Err("a size looks like \"64Mi\" or \"1000000\"".into()),
    }
}

/// Seconds from a duration such as `90s`, `30m`, `1h30m` or `7d`, within bounds.
pub(super) fn duration(text: &str, shortest: u32, longest: u32) -> Result<u32, String> {
    let seconds = seconds(text).ok_or("a duration looks like \"90s\", \"30m\", \"1h30m\" or \"7d\"")?;
    match u32::try_from(seconds).ok().filter(|seconds| (shortest..=longest).contains(seconds)) {
        Some(seconds) => Ok(seconds),
        None => Err(format!("it must be from {} to {}", spell(shortest), spell(longest))),
    }
}

/// Whole days, as [`duration`].
pub(super) fn days(text: &str, shortest: u32, longest: u32) -> Result<u32, String> {
    let seconds = duration(text, shortest * DAY, longest * DAY)?;
    if seconds.is_multiple_of(DAY) {
        Ok(seconds / DAY)
    } else {
        Err("the bucket counts whole days, like \"7d\"".into())
    }
}

/// Seconds of a day.
pub(super) const DAY: u32 = 86_400;

fn seconds(text: &str) -> Option<u64> {
    let mut total = 0u64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match &rest[digits..].chars().next()? {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => u64::from(DAY),
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then_some(total)
}

fn spell(seconds: u32) -> String {
    match seconds {
        0 => "0s".into(),
        _ if seconds.is_multiple_of(DAY) => format!("{}d", seconds / DAY),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}
