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

/// `B/output/SESSION/JOB/GENERATION-ATTEMPT`, the result of a single input.
pub fn output(business: &str, session: &str, job: &str, identity: &Identity) -> String {
    format!("{business}/output/{session}/{job}/{}", identity.run())
}

/// `B/output/SESSION/JOB/GENERATION-FIRST-ATTEMPT/NUMBER.json`, a part of what the engine records of a range.
pub fn part(business: &str, session: &str, job: &str, identity: &Identity, number: u32) -> String {
    format!("{}/{number}.json", output(business, session, job, identity))
}

/// `B/output/SESSION/JOB/GENERATION-FIRST-ATTEMPT/NUMBER.data`, the large results of that part.
pub fn part_data(business: &str, session: &str, job: &str, identity: &Identity, number: u32) -> String {
    format!("{}/{number}.data", output(business, session, job, identity))
}

/// `B/output/SESSION/JOB/GENERATION-FIRST-ATTEMPT/iINDEX`, the large result of one item that a pool computed.
pub fn item_output(business: &str, session: &str, job: &str, identity: &Identity, index: u32) -> String {
    format!("{}/i{index}", output(business, session, job, identity))
}

/// `B/output/SESSION/`, the results of a session.
pub fn output_prefix(business: &str, session: &str) -> String {
    format!("{business}/output/{session}/")
}

/// `B/outcome/SESSION/JOB/GENERATION-ATTEMPT.json`, with `-FIRST` in between for a range of a pack.
pub fn outcome(business: &str, session: &str, job: &str, identity: &Identity) -> String {
    format!("{business}/outcome/{session}/{job}/{}.json", identity.run())
}

/// `B/outcome/SESSION/JOB/GENERATION-`, the outcomes and the layout of one generation of an input.
pub fn outcome_prefix_of(business: &str, session: &str, job: &str, generation: i64) -> String {
    format!("{business}/outcome/{session}/{job}/{generation}-")
}

/// `B/outcome/SESSION/JOB/GENERATION-layout.json`, the layout of a pack.
pub fn layout(business: &str, session: &str, job: &str, generation: i64) -> String {
    format!("{}layout.json", outcome_prefix_of(business, session, job, generation))
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

/// `B/control/logouts/APP/`: the logins to a web app that people ended.
pub fn logouts_prefix(business: &str, app: &str) -> String {
    format!("{}logouts/{app}/", control_prefix(business))
}

/// `B/swept`: when an orchestrator last swept the inputs.
pub fn swept(business: &str) -> String {
    format!("{business}/swept")
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

/// The parts of the name of an outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutcomeName {
    /// Session.
    pub session: String,
    /// Job id.
    pub job: String,
    /// Generation of the input.
    pub generation: i64,
    /// First item of the range, when it is the outcome of a range.
    pub first: Option<u32>,
    /// Attempt.
    pub attempt: u32,
}

/// Reads the name of an outcome; `None` if it is not that of a Job's or a range's outcome.
pub fn parse_outcome(business: &str, object: &str) -> Option<OutcomeName> {
    let (session, job, run) = parse_run(business, object)?;
    let mut numbers = run.split('-');
    let (generation, second, third) = (numbers.next()?.parse().ok()?, numbers.next()?, numbers.next());
    let (first, attempt) = match third {
        None => (None, second.parse().ok()?),
        Some(attempt) => (Some(second.parse().ok()?), attempt.parse().ok()?),
    };
    let is_whole = numbers.next().is_none();
    is_whole.then(|| OutcomeName { session: session.to_owned(), job: job.to_owned(), generation, first, attempt })
}

/// Session, job and generation of a layout; `None` if the name is not that of one.
pub fn parse_layout<'a>(business: &str, object: &'a str) -> Option<(&'a str, &'a str, i64)> {
    let (session, job, run) = parse_run(business, object)?;
    Some((session, job, run.strip_suffix("-layout")?.parse().ok()?))
}

/// Session, job and the last part, without its ending, of an object among the outcomes.
fn parse_run<'a>(business: &str, object: &'a str) -> Option<(&'a str, &'a str, &'a str)> {
    let (session, rest) = object.strip_prefix(&outcome_prefix(business, None))?.split_once('/')?;
    let (job, run) = rest.rsplit_once('/')?;
    Some((session, job, run.strip_suffix(".json")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(first: Option<u32>) -> Identity {
        Identity { bucket: "b".into(), object: "bu1/input/s/a/b".into(), generation: 7, first, attempt: 2 }
    }

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
        let identity = identity(None);
        let name = parked("bu1", "s", "a/b", &identity);
        assert_eq!(name, "bu1/parked/s/a/b/7-2.json");
        assert_eq!(parse_parked("bu1", &name), Some("s"));
        assert_eq!(parse_parked("bu2", &name), None);
    }

    #[test]
    fn outcomes_round_trip() {
        for (first, run) in [(None, "7-2"), (Some(40), "7-40-2")] {
            let name = outcome("bu1", "s", "a/b", &identity(first));
            assert_eq!(name, format!("bu1/outcome/s/a/b/{run}.json"));
            let expected = OutcomeName { session: "s".into(), job: "a/b".into(), generation: 7, first, attempt: 2 };
            assert_eq!(parse_outcome("bu1", &name), Some(expected));
            assert_eq!((parse_layout("bu1", &name), parse_refused("bu1", &name)), (None, None));
        }
        for other in ["bu1/outcome/s/j/7-1-2-3.json", "bu1/outcome/s/j/7.json", "bu1/outcome/s/j/7-x-2.json"] {
            assert_eq!(parse_outcome("bu1", other), None, "{other}");
        }
        let layout = layout("bu1", "s", "a/b", 7);
        assert_eq!((parse_layout("bu1", &layout), parse_outcome("bu1", &layout)), (Some(("s", "a/b", 7)), None));
        assert_eq!(parse_outcome("bu1", &refused("bu1", "123")), None);
        assert_eq!(parse_refused("bu1", &refused("bu1", "123")), Some("123"));
    }
}
