//! Cloud Build: its requests and replies as values, and how a build is begun once; `cargo xtask build` sends the rest.

use contract::object::BUILD_LOG_PREFIX;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    calls,
    environment::Environment,
    google::{Api, Client, Error, Method, Request, escape},
};

/// Longest that a build may take, in seconds; the first one compiles every crate.
pub const LIMIT_SECS: u32 = 3600;
/// How long a build may wait for a machine, in seconds.
const QUEUE_LIMIT_SECS: u32 = 3600;
/// The methods of a build; its source and its log are objects.
pub(crate) const METHODS: &[&str] = &[
    "cloudbuild.projects.locations.builds.create",
    "cloudbuild.projects.locations.builds.get",
    "cloudbuild.projects.locations.builds.list",
    "cloudbuild.projects.locations.builds.cancel",
    "artifactregistry.projects.locations.repositories.dockerImages.list",
    "storage.objects.insert",
    "storage.objects.get",
];
/// Machine of a build: compiling uses many cores.
const MACHINE: &str = "E2_HIGHCPU_8";
/// The image whose cargo compiles; it has the toolchain that the source asks for.
pub const RUST_IMAGE: &str = "rust:1.95.0-bookworm";
/// That toolchain. Setting it keeps rustup from reading the file of the source, which
/// would fetch components that only development needs.
const TOOLCHAIN: &str = "1.95.0";

/// An order for a build.
#[derive(Clone, Debug)]
pub struct Order<'a> {
    /// Environment that it is for.
    pub environment: &'a Environment,
    /// Object with the source, in the environment's bucket.
    pub object: &'a str,
    /// Generation of it.
    pub generation: i64,
    /// Registry of the images: `HOST/PATH`.
    pub place: &'a str,
    /// The images.
    pub images: &'a [Image<'a>],
}

/// An image that a build makes.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Its name.
    pub name: &'a str,
    /// The tag that it gets.
    pub tag: &'a str,
}

impl Image<'_> {
    /// Tag of a build that makes this image: what the build is found by.
    pub fn build_tag(&self) -> String {
        format!("{}.{}", self.name, self.tag)
    }
}

/// The state of a build, as Cloud Build names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Created, and waits for an approval or a free slot.
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
    /// A person cancelled it.
    Cancelled,
    /// It waited too long for a machine.
    Expired,
    /// A word that this version does not know: the build is read again.
    Unknown,
}

/// A build, as a reply describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Its id.
    pub id: String,
    /// Its state.
    pub state: State,
    /// Why it failed, or what it waits for.
    pub detail: Option<String>,
    /// Page about it.
    pub page: Option<String>,
    /// Its tags, among them one for each image that it makes.
    pub tags: Vec<String>,
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

    /// Whether it has ended.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Pending | Self::Queued | Self::Working | Self::Unknown)
    }

    /// A verb phrase for people.
    pub fn description(self) -> &'static str {
        match self {
            Self::Pending => "is created, and waits for a slot",
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
    /// Reads a build, or the operation that began one; `None` for any other value.
    pub fn read(answer: &Value) -> Option<Self> {
        let build = if answer["metadata"]["build"].is_object() { &answer["metadata"]["build"] } else { answer };
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let failure = &build["failureInfo"];
        let tags = build["tags"].as_array().into_iter().flatten();
        Some(Self {
            id: text(&build["id"])?,
            state: State::of(build["status"].as_str().unwrap_or_default()),
            detail: text(&failure["detail"]).or_else(|| text(&build["statusDetail"])),
            page: text(&build["logUrl"]),
            tags: tags.filter_map(text).collect(),
        })
    }

    /// Object with its log, in the environment's bucket.
    pub fn log(&self) -> String {
        format!("{BUILD_LOG_PREFIX}log-{}.txt", self.id)
    }
}

/// Begins a build: this very program makes the images, as `cargo xtask build --local` does anywhere, and pushes them
/// as the account that the build runs as.
pub fn create(order: &Order<'_>) -> Request {
    let environment = order.environment;
    let images = order.images.iter().map(|image| format!("{}:{}", image.name, image.tag));
    let arguments =
        ["xtask", "build", "--local", "--registry", order.place].map(str::to_owned).into_iter().chain(images);
    let tags =
        ["deskgrid".to_owned(), environment.name.clone()].into_iter().chain(order.images.iter().map(Image::build_tag));
    let body = json!({
        "source": {"storageSource": {
            "bucket": environment.bucket,
            "object": order.object,
            "generation": order.generation.to_string(),
        }},
        "steps": [{
            "id": "images",
            "name": RUST_IMAGE,
            "entrypoint": "cargo",
            "args": arguments.collect::<Vec<_>>(),
            "env": [format!("RUSTUP_TOOLCHAIN={TOOLCHAIN}")],
        }],
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
        "tags": tags.collect::<Vec<_>>(),
    });
    Request::new(Api::CloudBuild, Method::Post, builds(environment)).body(body)
}

/// Reads the state of a build.
pub fn get(environment: &Environment, id: &str) -> Request {
    Request::get(Api::CloudBuild, format!("{}/{}", builds(environment), escape(id)))
}

/// Lists the builds that make an image.
pub fn list(environment: &Environment, image: &Image<'_>) -> Request {
    Request::get(Api::CloudBuild, builds(environment))
        .query("filter", format!("tags=\"{}\" AND tags=\"{}\"", image.build_tag(), environment.name))
}

/// Begins a build, or finds a running one that makes all these images, unless `anew`; `true` with one that was found,
/// which another person may have begun.
/// When only the reply was lost, no second build is begun: Cloud Build would run both. `None` when the reply is not a
/// build.
///
/// # Errors
/// When Cloud Build does not answer, or refuses the build.
pub async fn begin(client: &Client, order: &Order<'_>, anew: bool) -> Result<Option<(Build, bool)>, Error> {
    let Some(first) = order.images.first() else { return Ok(None) };
    let list = list(order.environment, first);
    let builds = async || -> Result<Vec<Build>, Error> {
        Ok(client.list(&list, "builds").await?.iter().filter_map(Build::read).collect())
    };
    let makes_all = |build: &Build| order.images.iter().all(|image| build.tags.contains(&image.build_tag()));
    let before = builds().await?;
    let going_on = before.iter().find(|build| !build.state.has_ended() && makes_all(build));
    if let Some(build) = going_on.filter(|_| !anew) {
        return Ok(Some((build.clone(), true)));
    }
    let (once, retry, started) = (client.once(), client.retry(), Instant::now());
    let mut attempt = 1;
    loop {
        match once.send(&create(order)).await {
            Err(error) if calls::not_yet(METHODS, error.answer()).is_some_and(|limit| started.elapsed() < limit) => {
                tokio::time::sleep(retry.pause(attempt)).await;
                attempt += 1;
                continue;
            }
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

/// Cancels a build.
pub fn cancel(environment: &Environment, id: &str) -> Request {
    Request::new(Api::CloudBuild, Method::Post, format!("{}/{}:cancel", builds(environment), escape(id)))
        .body(json!({}))
}

/// Lists the images of the environment's registry.
pub fn images(environment: &Environment) -> Request {
    let path = format!(
        "v1/projects/{}/locations/{}/repositories/{}/dockerImages",
        environment.project, environment.location, environment.build.registry
    );
    Request::get(Api::ArtifactRegistry, path)
}

/// Reference by digest of an image with this tag, in the reply to [`images`].
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
    fn builds_compile_with_the_toolchain_of_the_source() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rust-toolchain.toml");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&format!("channel = \"{TOOLCHAIN}\"")), "{text}");
        assert_eq!(RUST_IMAGE, format!("rust:{TOOLCHAIN}-bookworm"));
    }

    #[test]
    fn a_build_is_read_from_an_operation_and_from_itself() {
        let build = json!({"id": "b-1", "tags": ["deskgrid", "engine.src-1"], "status": "FAILURE", "statusDetail": "x",
            "failureInfo": {"type": "USER_BUILD_STEP", "detail": "step 0 exited with 101"}});
        let read = Build::read(&build).unwrap();
        assert_eq!(read.state, State::Failure);
        assert_eq!(read.detail.as_deref(), Some("step 0 exited with 101"));
        assert_eq!(read.tags, ["deskgrid", "engine.src-1"]);
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
