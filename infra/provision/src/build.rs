//! Cloud Build: what is asked of it, and what its answers mean. Values, and how a build is begun once; `cargo xtask
//! build` sends the rest.

use std::collections::BTreeSet;

use contract::object::BUILD_LOG_PREFIX;
use serde_json::{Value, json};

use crate::{
    environment::Environment,
    google::{Api, Client, Error, Method, Request, escape},
};

/// Longest that a build may take, in seconds; the first one compiles every crate.
pub const LIMIT_SECS: u32 = 3600;
/// How long a build may wait for a machine, in seconds.
const QUEUE_LIMIT_SECS: u32 = 3600;
/// Machine that builds: compiling makes use of many cores.
const MACHINE: &str = "E2_HIGHCPU_8";
/// The program that reads Dockerfiles.
const DOCKER: &str = "gcr.io/cloud-builders/docker";
/// Stage of the Dockerfile with the compiled dependencies, kept in the registry from one build to the next.
const DEPENDENCIES: &str = "dependencies";

/// What a build is of.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Environment that it is for.
    pub environment: &'a Environment,
    /// Object with the source, in the environment's bucket.
    pub object: &'a str,
    /// Generation of it.
    pub generation: i64,
    /// Where images go: `HOST/PATH`.
    pub place: &'a str,
    /// The Dockerfile, in the source.
    pub dockerfile: &'a str,
    /// The images.
    pub images: &'a [Wanted<'a>],
}

/// An image that a build is asked for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Its name, and that of its stage of the Dockerfile.
    pub image: &'a str,
    /// The tag that it gets.
    pub tag: &'a str,
    /// What it says of itself: `KEY=VALUE`.
    pub labels: Vec<String>,
}

impl Order<'_> {
    /// Names of the images, with their tags.
    pub fn names(&self) -> Vec<String> {
        self.images.iter().map(|wanted| format!("{}/{}:{}", self.place, wanted.image, wanted.tag)).collect()
    }

    /// Tags of the images, each once: what the build is found by.
    fn tags(&self) -> BTreeSet<&str> {
        self.images.iter().map(|wanted| wanted.tag).collect()
    }
}

/// How a build stands, in Cloud Build's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Made, and waits for an approval or for its turn.
    Pending,
    /// Waits for a machine.
    Queued,
    /// Runs.
    Working,
    /// Done.
    Success,
    /// A step failed.
    Failure,
    /// Google failed.
    InternalError,
    /// It took too long.
    Timeout,
    /// Somebody ended it.
    Cancelled,
    /// It waited too long for its turn.
    Expired,
    /// A word that this version does not know: it is looked at again.
    Unknown,
}

/// A build, as far as it was told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its id.
    pub id: String,
    /// How it stands.
    pub state: State,
    /// What more is said of it: why it failed, or what it waits for.
    pub detail: Option<String>,
    /// Page about it.
    pub page: Option<String>,
    /// Names with tags of the images that it was asked for.
    pub ordered: Vec<String>,
    /// Digests of its images, by their names with tags.
    pub images: Vec<(String, String)>,
}

impl State {
    /// The state of a word of the API.
    pub fn of(word: &str) -> Self {
        match word {
            "PENDING" => Self::Pending,
            "QUEUED" => Self::Queued,
            "WORKING" => Self::Working,
            "SUCCESS" => Self::Success,
            "FAILURE" => Self::Failure,
            "INTERNAL_ERROR" => Self::InternalError,
            "TIMEOUT" => Self::Timeout,
            "CANCELLED" => Self::Cancelled,
            "EXPIRED" => Self::Expired,
            _ => Self::Unknown,
        }
    }

    /// Nothing more will come of it.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Queued | Self::Working | Self::Unknown)
    }

    /// What a person is told.
    pub fn said(self) -> &'static str {
        match self {
            Self::Pending => "is made, and waits for its turn",
            Self::Queued => "waits for a machine",
            Self::Working => "runs",
            Self::Success => "is done",
            Self::Failure => "failed",
            Self::InternalError => "failed inside Cloud Build",
            Self::Timeout => "took too long",
            Self::Cancelled => "was cancelled",
            Self::Expired => "waited too long for a machine",
            Self::Unknown => "is in a state that this version does not know",
        }
    }
}

impl Build {
    /// Reads a build, or the operation that began one; nothing when it is neither.
    pub fn read(answer: &Value) -> Option<Self> {
        let build = if answer["metadata"]["build"].is_object() { &answer["metadata"]["build"] } else { answer };
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let failure = &build["failureInfo"];
        let images = build["results"]["images"].as_array().into_iter().flatten();
        let ordered = build["images"].as_array().into_iter().flatten();
        Some(Self {
            id: text(&build["id"])?,
            state: State::of(build["status"].as_str().unwrap_or_default()),
            detail: text(&failure["detail"]).or_else(|| text(&build["statusDetail"])),
            page: text(&build["logUrl"]),
            ordered: ordered.filter_map(|image| image.as_str().map(str::to_owned)).collect(),
            images: images.filter_map(|image| Some((text(&image["name"])?, text(&image["digest"])?))).collect(),
        })
    }

    /// Object with its log, in the environment's bucket.
    pub fn log(&self) -> String {
        format!("{BUILD_LOG_PREFIX}log-{}.txt", self.id)
    }
}

/// Asks for a build.
pub fn create(order: &Order<'_>) -> Request {
    let Order { environment, place, dockerfile, .. } = *order;
    let cache = format!("{place}/{DEPENDENCIES}:latest");
    let docker = |target: &str, name: &str, labels: &[String]| {
        let mut arguments = vec!["build", "--file", dockerfile, "--target", target, "--cache-from", &cache];
        arguments.extend(["--build-arg", "BUILDKIT_INLINE_CACHE=1", "--progress", "plain", "--tag", name]);
        for label in labels {
            arguments.extend(["--label", label]);
        }
        arguments.push(".");
        json!({"id": target, "name": DOCKER, "args": arguments, "env": ["DOCKER_BUILDKIT=1"]})
    };
    let names = order.names();
    // The first build of a registry finds nothing to go on from.
    let mut steps = vec![json!({
        "id": "cache",
        "name": DOCKER,
        "entrypoint": "bash",
        "args": ["-c", format!("docker pull --quiet {cache} || echo 'no compiled dependencies yet'")],
    })];
    steps.push(docker(DEPENDENCIES, &cache, &[]));
    steps.extend(order.images.iter().zip(&names).map(|(wanted, name)| docker(wanted.image, name, &wanted.labels)));
    let mut pushed: Vec<&str> = names.iter().map(String::as_str).collect();
    pushed.push(&cache);
    let tags: Vec<&str> = ["deskgrid", &environment.name].into_iter().chain(order.tags()).collect();
    let body = json!({
        "source": {"storageSource": {
            "bucket": environment.bucket,
            "object": order.object,
            "generation": order.generation.to_string(),
        }},
        "steps": steps,
        "images": pushed,
        "timeout": format!("{LIMIT_SECS}s"),
        "queueTtl": format!("{QUEUE_LIMIT_SECS}s"),
        // An account of our own has to say where logs go: new projects have no bucket for them.
        "serviceAccount": format!("projects/{}/serviceAccounts/{}", environment.project, environment.accounts.builder),
        "logsBucket": format!("gs://{}/{}", environment.bucket, BUILD_LOG_PREFIX.trim_end_matches('/')),
        "options": {
            "logging": "GCS_ONLY",
            "logStreamingOption": "STREAM_ON",
            "machineType": MACHINE,
        },
        "tags": tags,
    });
    Request::new(Api::CloudBuild, Method::Post, builds(environment)).body(body)
}

/// Asks how a build stands.
pub fn get(environment: &Environment, id: &str) -> Request {
    Request::get(Api::CloudBuild, format!("{}/{}", builds(environment), escape(id)))
}

/// Asks for the builds that make an image with this tag.
pub fn list(environment: &Environment, tag: &str) -> Request {
    Request::get(Api::CloudBuild, builds(environment))
        .query("filter", format!("tags=\"{tag}\" AND tags=\"{}\"", environment.name))
}

/// Begins a build, or finds one that goes on already and makes all these images, unless `anew`; `true` with one that was
/// found, which may be somebody else's.
/// No second one is begun when only the answer was lost: Cloud Build would make both. Nothing when the answer is none of
/// a build.
///
/// # Errors
/// When Cloud Build cannot be asked, or takes no order.
pub async fn begin(client: &Client, order: &Order<'_>, anew: bool) -> Result<Option<(Build, bool)>, Error> {
    // A build that makes all of them makes the first.
    let list = list(order.environment, order.images.first().map(|wanted| wanted.tag).unwrap_or_default());
    let builds = async || -> Result<Vec<Build>, Error> {
        Ok(client.list(&list, "builds").await?.iter().filter_map(Build::read).collect())
    };
    let wanted = order.names();
    let makes_all = |build: &Build| wanted.iter().all(|name| build.ordered.contains(name));
    let before = builds().await?;
    let going_on = before.iter().find(|build| !build.state.has_ended() && makes_all(build));
    if let Some(build) = going_on.filter(|_| !anew) {
        return Ok(Some((build.clone(), true)));
    }
    let (once, retry) = (client.once(), client.retry());
    let mut attempt = 1;
    loop {
        match once.send(&create(order)).await {
            Err(error) if error.is_transient() && attempt < retry.attempts => {
                tokio::time::sleep(retry.pause(attempt)).await;
                attempt += 1;
            }
            answer => return Ok(Build::read(&answer?).map(|build| (build, false))),
        }
        let is_new = |build: &Build| makes_all(build) && !before.iter().any(|other| other.id == build.id);
        if let Some(build) = builds().await?.into_iter().find(is_new) {
            return Ok(Some((build, false)));
        }
    }
}

/// Ends a build.
pub fn cancel(environment: &Environment, id: &str) -> Request {
    Request::new(Api::CloudBuild, Method::Post, format!("{}/{}:cancel", builds(environment), escape(id)))
        .body(json!({}))
}

/// Asks for the images of the environment's registry.
pub fn images(environment: &Environment) -> Request {
    let path = format!(
        "v1/projects/{}/locations/{}/repositories/{}/dockerImages",
        environment.project, environment.location, environment.build.registry
    );
    Request::get(Api::ArtifactRegistry, path)
}

/// Reference by digest of an image with this tag, in what [`images`] answered.
pub fn tagged(listed: &[Value], repository: &str, tag: &str) -> Option<String> {
    listed.iter().find_map(|image| {
        let uri = image["uri"].as_str()?;
        let (name, _) = uri.split_once('@')?;
        let has = image["tags"].as_array()?.iter().any(|found| found == tag);
        (name == repository && has).then(|| uri.to_owned())
    })
}

fn builds(environment: &Environment) -> String {
    format!("v1/projects/{}/locations/{}/builds", environment.project, environment.build.region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_of_the_api_is_known() {
        // The words of the discovery document.
        let document: Value = serde_json::from_str(include_str!("../tests/it/discovery/cloudbuild.v1.json")).unwrap();
        let words = document["schemas"]["Build"]["properties"]["status"]["enum"].as_array().unwrap();
        let known: Vec<State> = words.iter().map(|word| State::of(word.as_str().unwrap())).collect();
        assert_eq!(known.len(), 10);
        assert_eq!(known.iter().filter(|state| **state == State::Unknown).count(), 1, "STATUS_UNKNOWN alone");
        assert_eq!(known.iter().filter(|state| state.has_ended()).count(), 6);
    }

    #[test]
    fn a_build_is_read_from_an_operation_and_from_itself() {
        let build = json!({"id": "b-1", "images": ["r/engine:src-1"], "status": "FAILURE", "statusDetail": "x", "failureInfo": {"type": "USER_BUILD_STEP", "detail": "step 2 exited with 101"},
            "results": {"images": [{"name": "r/engine:src-1", "digest": "sha256:1"}]}});
        let read = Build::read(&build).unwrap();
        assert_eq!(read.state, State::Failure);
        assert_eq!(read.detail.as_deref(), Some("step 2 exited with 101"));
        assert_eq!(read.ordered, ["r/engine:src-1"]);
        assert_eq!(read.images, [("r/engine:src-1".to_owned(), "sha256:1".to_owned())]);
        assert_eq!(read.log(), "deskgrid/build/log/log-b-1.txt");
        assert_eq!(Build::read(&json!({"name": "operations/x", "metadata": {"build": build}})), Some(read));
        assert_eq!(Build::read(&json!({"name": "operations/x"})), None);
    }

    #[test]
    fn a_tag_is_found_on_its_own_image_only() {
        let listed = [
            json!({"uri": "r/engine@sha256:1", "tags": ["src-1", "src-2"]}),
            json!({"uri": "r/orchestrator@sha256:2", "tags": ["src-1"]}),
            json!({"uri": "r/orchestrator@sha256:3"}),
        ];
        assert_eq!(tagged(&listed, "r/orchestrator", "src-1").as_deref(), Some("r/orchestrator@sha256:2"));
        assert_eq!(tagged(&listed, "r/engine", "src-2").as_deref(), Some("r/engine@sha256:1"));
        assert_eq!(tagged(&listed, "r/orchestrator", "src-2"), None);
    }
}
