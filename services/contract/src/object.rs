//! Names of the objects of a business in the bucket. Only this module builds and parses them.

use crate::{Identity, names};

/// Session of inputs that came inside a message.
pub const INLINE_SESSION: &str = "inline";
/// Session of inputs that were copied straight under `B/input/`.
pub const UPLOADS_SESSION: &str = "uploads";

/// Prefix of the source of image builds. No business can be called `deskgrid`.
pub const BUILD_SOURCE_PREFIX: &str = "deskgrid/build/source/";
/// Prefix of the logs of image builds.
pub const BUILD_LOG_PREFIX: &str = "deskgrid/build/log/";

/// `B/input/`.
pub fn input_prefix(business: &str) -> String {
    format!("{business}/input/")
}

/// `B/input/SESSION/JOB`.
pub fn input(business: &str, session: &str, job: &str) -> String {
    format!("{business}/input/{session}/{job}")
}

/// Whether the name is that of a folder below `B/input/`, as the console and other tools make them: an object with no
/// contents.
pub fn is_folder_marker(business: &str, object: &str) -> bool {
    object.starts_with(&input_prefix(business)) && object.ends_with('/')
}

/// `B/common/SESSION/NAME`.
pub fn common(business: &str, session: &str, name: &str) -> String {
    format!("{business}/common/{session}/{name}")
}

/// `B/common/.batch/HASH.json`, the manifest of a batch. No session can be called `.batch`.
pub fn manifest(business: &str, hash: &str) -> String {
    format!("{}{hash}.json", manifest_prefix(business))
}

/// `B/common/.batch/`, where the manifests are: the engine may read there.
pub fn manifest_prefix(business: &str) -> String {
    format!("{business}/common/.batch/")
}

/// `B/output/.batch/`, where the reports of batches are: the engine may create there.
pub fn report_prefix(business: &str) -> String {
    format!("{business}/output/.batch/")
}

/// `B/output/SESSION/JOB/GENERATION-ATTEMPT`, with `/INDEX` for a task of a split Job.
pub fn output(business: &str, session: &str, job: &str, identity: &Identity, index: Option<u32>) -> String {
    let base = format!("{business}/output/{session}/{job}/{}", identity.run());
    match index {
        Some(index) => format!("{base}/{index}"),
        None => base,
    }
}

/// `B/output/SESSION/`, the results of a session.
pub fn output_prefix(business: &str, session: &str) -> String {
    format!("{business}/output/{session}/")
}

/// `B/outcome/SESSION/JOB/GENERATION-ATTEMPT.json`.
pub fn outcome(business: &str, session: &str, job: &str, identity: &Identity) -> String {
    format!("{business}/outcome/{session}/{job}/{}.json", identity.run())
}

/// `B/outcome/SESSION/`, the outcomes of a session; `B/outcome/` for all.
pub fn outcome_prefix(business: &str, session: Option<&str>) -> String {
    match session {
        Some(session) => format!("{business}/outcome/{session}/"),
        None => format!("{business}/outcome/"),
    }
}

/// `B/outcome/refused/MESSAGE_ID.json`.
pub fn refused(business: &str, message_id: &str) -> String {
    format!("{business}/outcome/refused/{message_id}.json")
}

/// `B/control/SESSION.json`.
pub fn control(business: &str, session: &str) -> String {
    format!("{business}/control/{session}.json")
}

/// `B/control/`.
pub fn control_prefix(business: &str) -> String {
    format!("{business}/control/")
}

/// Session of a control object; `None` if the name is not that of one.
pub fn parse_control<'a>(business: &str, object: &'a str) -> Option<&'a str> {
    object
        .strip_prefix(&control_prefix(business))?
        .strip_suffix(".json")
        .filter(|session| names::check_session(session).is_ok())
}

/// `B/common/SESSION/`, the data that every Job of a session reads.
pub fn common_prefix(business: &str, session: &str) -> String {
    format!("{business}/common/{session}/")
}

/// `B/parked/SESSION/JOB/GENERATION-ATTEMPT.json`: a message that was received while its session was paused.
pub fn parked(business: &str, session: &str, job: &str, identity: &Identity) -> String {
    format!("{}{job}/{}.json", parked_prefix(business, Some(session)), identity.run())
}

/// `B/parked/SESSION/`, the parked messages of a session; `B/parked/` for all.
pub fn parked_prefix(business: &str, session: Option<&str>) -> String {
    match session {
        Some(session) => format!("{business}/parked/{session}/"),
        None => format!("{business}/parked/"),
    }
}

/// Session of a parked message; `None` if the name is not that of one.
pub fn parse_parked<'a>(business: &str, object: &'a str) -> Option<&'a str> {
    let (session, _) = object.strip_prefix(&parked_prefix(business, None))?.split_once('/')?;
    Some(session).filter(|_| object.ends_with(".json"))
}

/// Message id of the outcome of a refused message; `None` if the name is not that of one.
pub fn parse_refused<'a>(business: &str, object: &'a str) -> Option<&'a str> {
    object
        .strip_prefix(&outcome_prefix(business, Some("refused")))?
        .strip_suffix(".json")
        .filter(|id| !id.contains('/'))
}

/// Session and job of an input object, or why the name is not one of this business's inputs.
///
/// # Errors
/// When the name is too long or outside the prefix, or its session or job id is invalid.
pub fn parse_input(business: &str, object: &str) -> anyhow::Result<(String, String)> {
    let prefix = input_prefix(business);
    let Some(rest) = object.strip_prefix(&prefix) else {
        anyhow::bail!("the object {object:?} is not under {prefix}");
    };
    if object.len() > names::OBJECT_MAX {
        anyhow::bail!("an object name has at most {} bytes, this one has {}", names::OBJECT_MAX, object.len());
    }
    let (session, job) = rest.split_once('/').unwrap_or((UPLOADS_SESSION, rest));
    names::check_session(session)?;
    names::check_job(job)?;
    Ok((session.to_owned(), job.to_owned()))
}

/// Session, job, generation and attempt of an outcome object; `None` if the name is not that of a Job's outcome.
pub fn parse_outcome(business: &str, object: &str) -> Option<(String, String, i64, u32)> {
    let rest = object.strip_prefix(&outcome_prefix(business, None))?;
    let (session, rest) = rest.split_once('/')?;
    let (job, run) = rest.rsplit_once('/')?;
    let (generation, attempt) = run.strip_suffix(".json")?.split_once('-')?;
    Some((session.to_owned(), job.to_owned(), generation.parse().ok()?, attempt.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_names_are_parsed_and_checked() {
        assert_eq!(parse_input("bu1", "bu1/input/s/a/b.json").unwrap(), ("s".into(), "a/b.json".into()));
        assert_eq!(parse_input("bu1", "bu1/input/plain").unwrap(), ("uploads".into(), "plain".into()));
        for bad in
            ["bu2/input/s/j", "bu1/output/s/j", "bu1/input/", "bu1/input/s/", "bu1/input/s/../j", "bu1/input/s p/j"]
        {
            assert!(parse_input("bu1", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn control_and_parked_names_round_trip() {
        assert_eq!(parse_control("bu1", &control("bu1", "s.1")), Some("s.1"));
        for other in ["bu2/control/s.json", "bu1/control/s", "bu1/control/a/b.json", "bu1/control/refused.json"] {
            assert_eq!(parse_control("bu1", other), None, "{other}");
        }
        let identity = Identity { bucket: "b".into(), object: "bu1/input/s/a/b".into(), generation: 7, attempt: 2 };
        let name = parked("bu1", "s", "a/b", &identity);
        assert_eq!(name, "bu1/parked/s/a/b/7-2.json");
        assert_eq!(parse_parked("bu1", &name), Some("s"));
        assert_eq!(parse_parked("bu2", &name), None);
    }

    #[test]
    fn outcomes_round_trip() {
        let identity = Identity { bucket: "b".into(), object: "bu1/input/s/a/b".into(), generation: 7, attempt: 2 };
        let name = outcome("bu1", "s", "a/b", &identity);
        assert_eq!(parse_outcome("bu1", &name), Some(("s".into(), "a/b".into(), 7, 2)));
        assert_eq!(parse_outcome("bu1", &refused("bu1", "123")), None);
        assert_eq!(parse_refused("bu1", &refused("bu1", "123")), Some("123"));
        assert_eq!(parse_refused("bu1", &name), None);
    }
}
