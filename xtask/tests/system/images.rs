//! Images: put together from what cargo built, brought to a registry that others wrote, read back by a client that
//! others wrote, and run by a runtime that others wrote.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use images::{Image, LIBRARY_FOLDERS, Login, Part, Program, Recipe, Registry, assemble, spdx};
use serde_json::{Value, json};

use crate::{laptop::are_there, world::programs};

/// How long a test waits for a program that starts; only a safety net.
const PATIENCE: Duration = Duration::from_secs(120);
const SOURCE: &str = "src-0123456789abcdef";

/// The image of a program; which one does not matter to registries.
fn image_of(program: &Path, name: &str) -> Image {
    let program = Program::read(program, LIBRARY_FOLDERS).unwrap();
    let metadata = json!({
        "packages": [{"id": "p", "name": name, "version": "0.0.0", "source": null}],
        "resolve": {"nodes": [{"id": "p", "deps": []}]},
    });
    let part = Part { name: "glibc".to_owned(), version: "2.36".to_owned() };
    let sbom = spdx(&metadata, name, SOURCE, &[part]).unwrap();
    assemble(&Recipe { spec: images::find(name).unwrap(), program: &program, source: SOURCE, sbom: &sbom }).unwrap()
}

/// A small program that every machine with these tests has.
fn small() -> PathBuf {
    PathBuf::from("/bin/true")
}

/// Debian's registry on a free port, which ends with the test.
struct Served {
    process: Child,
    folder: tempfile::TempDir,
    place: String,
}

impl Served {
    fn start() -> Self {
        Self::with(|_, _| {})
    }

    /// One that lets in `desk` with the password `abc` only.
    fn locked() -> Self {
        Self::with(|folder, config| {
            let file = folder.join("htpasswd");
            // A test vector of bcrypt's.
            std::fs::write(&file, "desk:$2a$06$If6bvum7DFjUnE9p2uDeDu0YHzrHM6tf.iqN8.yx.jNN1ILEf7h0i\n").unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "desk", "path": file}});
        })
    }

    fn with(change: impl FnOnce(&Path, &mut Value)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = localcloud::serve::free_port().unwrap();
        let mut config = json!({
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": folder.path().join("registry")}},
            "http": {"addr": format!("127.0.0.1:{port}")},
        });
        change(folder.path(), &mut config);
        let file = folder.path().join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "the registry does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, folder, place: format!("127.0.0.1:{port}/desk") }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skopeo(arguments: &[&str]) -> Value {
    let ran = Command::new("skopeo").args(arguments).output().unwrap();
    assert!(ran.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap_or_default()
}

#[test]
fn the_same_recipe_is_the_same_image() {
    let (one, other) = (image_of(&small(), "engine"), image_of(&small(), "engine"));
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.layers, other.layers);
    assert_ne!(one.digest(), image_of(&small(), "orchestrator").digest());
    let config: Value = serde_json::from_slice(&one.config.bytes).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/engine"]));
    assert_eq!(config["config"]["Labels"]["org.opencontainers.image.revision"], SOURCE);
    assert_eq!(config["rootfs"]["diff_ids"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_gives_back_what_was_pushed() {
    let _ = cloud::clients::install_tls_provider();
    if !are_there(&["docker-registry", "skopeo"]) {
        return;
    }
    let served = Served::start();
    let registry = Registry::new(&served.place, Login::Anonymous).unwrap();
    assert_eq!(registry.digest_of("engine", SOURCE).await.unwrap(), None);
    let image = image_of(&small(), "engine");
    let reference = registry.push(&image).await.unwrap();
    assert_eq!(reference, format!("{}/engine@{}", served.place, image.digest()));
    assert_eq!(registry.digest_of("engine", SOURCE).await.unwrap().as_deref(), Some(image.digest()));
    // Again, and another one with the same layer at its bottom.
    assert_eq!(registry.push(&image).await.unwrap(), reference);
    registry.push(&image_of(&small(), "orchestrator")).await.unwrap();

    let there = format!("docker://{}/engine:{SOURCE}", served.place);
    let found = skopeo(&["inspect", "--tls-verify=false", &there]);
    assert_eq!(found["Digest"], image.digest());
    assert_eq!(found["Architecture"], json!(image.architecture));
    let layers: Vec<&str> = image.layers.iter().map(|layer| layer.digest.as_str()).collect();
    assert_eq!(found["Layers"], json!(layers));

    // What comes back, blob by blob, is what went there; skopeo checks each digest on the way.
    let copy = served.folder.path().join("copy");
    let to = format!("dir:{}", copy.display());
    skopeo(&["copy", "--quiet", "--src-tls-verify=false", &format!("docker://{reference}"), &to]);
    assert_eq!(std::fs::read(copy.join("manifest.json")).unwrap(), image.manifest.bytes);
    for blob in image.blobs() {
        let file = copy.join(blob.digest.trim_start_matches("sha256:"));
        assert_eq!(std::fs::read(file).unwrap(), blob.bytes, "{}", blob.digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_lets_in_who_knows_the_password_and_nobody_else() {
    let _ = cloud::clients::install_tls_provider();
    if !are_there(&["docker-registry"]) {
        return;
    }
    let served = Served::locked();
    let image = image_of(&small(), "engine");
    let registry =
        |password: &str| Registry::new(&served.place, Login::Password("desk".to_owned(), password.to_owned())).unwrap();
    for stranger in [Registry::new(&served.place, Login::Anonymous).unwrap(), registry("abd")] {
        let errors = [
            stranger.digest_of("engine", SOURCE).await.unwrap_err(),
            stranger.check_push("engine").await.unwrap_err(),
            stranger.push(&image).await.unwrap_err(),
        ];
        assert!(errors.iter().all(|error| matches!(error, images::RegistryError::Denied(_))), "{errors:?}");
    }
    let registry = registry("abc");
    assert_eq!(registry.digest_of("engine", SOURCE).await.unwrap(), None);
    registry.check_push("engine").await.unwrap();
    registry.push(&image).await.unwrap();
    assert_eq!(registry.digest_of("engine", SOURCE).await.unwrap().as_deref(), Some(image.digest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_not_there_is_said_to_be_so() {
    let _ = cloud::clients::install_tls_provider();
    let port = localcloud::serve::free_port().unwrap();
    let registry = Registry::new(&format!("127.0.0.1:{port}/desk"), Login::Anonymous).unwrap();
    let error = registry.digest_of("engine", SOURCE).await.unwrap_err();
    assert!(matches!(error, images::RegistryError::Unreachable(_)), "{error:?}");
}

#[test]
fn an_archive_holds_the_images_under_tag_and_digest() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images.tar");
    let (engine, orchestrator) = (image_of(&small(), "engine"), image_of(&small(), "orchestrator"));
    let named = [("r.example/d/engine".to_owned(), &engine), ("r.example/d/orchestrator".to_owned(), &orchestrator)];
    images::write_archive(&file, &named).unwrap();
    let bytes = std::fs::read(&file).unwrap();
    images::write_archive(&file, &named).unwrap();
    assert_eq!(std::fs::read(&file).unwrap(), bytes, "the same images are the same file");
    let archive = images::Archive::read(&file).unwrap();
    for image in [&engine, &orchestrator] {
        let repository = format!("r.example/d/{}", image.name);
        assert_eq!(archive.digest_of(&repository, SOURCE), Some(image.digest()));
        assert_eq!(archive.digest_of(&repository, "src-other"), None);
    }
    if !are_there(&["skopeo"]) {
        return;
    }
    let place = format!("oci-archive:{}:r.example/d/engine:{SOURCE}", file.display());
    assert_eq!(skopeo(&["inspect", &place])["Digest"], engine.digest());
    // As Docker before version 25 reads it.
    let place = format!("docker-archive:{}:r.example/d/engine:{SOURCE}", file.display());
    assert_eq!(skopeo(&["inspect", "--config", &place])["config"]["User"], "65532:65532");
}

#[test]
fn an_archive_keeps_the_images_that_others_brought() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("images.tar");
    let [engine, orchestrator, deskgrid] = ["engine", "orchestrator", "deskgrid"].map(|name| image_of(&small(), name));
    let write = |name: &str, image: &Image| images::write_archive(&file, &[(format!("r.example/d/{name}"), image)]);
    // An empty file is what `mktemp` makes.
    std::fs::write(&file, "").unwrap();
    write("engine", &engine).unwrap();
    write("orchestrator", &orchestrator).unwrap();
    // What comes anew under a name is in the place of what had it.
    write("engine", &deskgrid).unwrap();
    let archive = images::Archive::read(&file).unwrap();
    assert_eq!(archive.digest_of("r.example/d/orchestrator", SOURCE), Some(orchestrator.digest()));
    assert_eq!(archive.digest_of("r.example/d/engine", SOURCE), Some(deskgrid.digest()));
    let mut tar = tar::Archive::new(std::fs::File::open(&file).unwrap());
    let held: Vec<String> =
        tar.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
    let place = |digest: &str| format!("blobs/{}", digest.replace(':', "/"));
    for blob in orchestrator.blobs().chain(deskgrid.blobs()) {
        assert_eq!(held.iter().filter(|path| **path == place(&blob.digest)).count(), 1, "{}", blob.digest);
    }
    assert!(!held.contains(&place(&engine.config.digest)), "what nobody names goes");
    // What is no archive is left alone.
    std::fs::write(&file, "a thesis").unwrap();
    assert!(write("engine", &engine).is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"a thesis");
    if !are_there(&["skopeo"]) {
        return;
    }
    std::fs::remove_file(&file).unwrap();
    write("engine", &engine).unwrap();
    write("orchestrator", &orchestrator).unwrap();
    // Every blob is read, and its digest looked at.
    let from = format!("oci-archive:{}:r.example/d/engine:{SOURCE}", file.display());
    skopeo(&["copy", "--quiet", &from, &format!("dir:{}", folder.path().join("copy").display())]);
}

/// Puts the layers of an image on top of each other in a folder.
fn unpack(image: &Image, root: &Path) {
    for layer in &image.layers {
        let mut bytes = Vec::new();
        flate2::read::GzDecoder::new(layer.bytes.as_slice()).read_to_end(&mut bytes).unwrap();
        let mut tar = tar::Archive::new(bytes.as_slice());
        tar.set_preserve_permissions(true);
        tar.unpack(root).unwrap();
    }
}

/// A container as Kubernetes would start it: the image's user, a root that cannot be written, no capability.
fn container(bundle: &Path, arguments: &[&str]) {
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 65532, "gid": 65532},
            "args": arguments,
            "env": ["PATH=/usr/bin"],
            "cwd": "/",
            "noNewPrivileges": true,
            "capabilities": {},
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev", "mode=1777"]},
        ],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"}, {"type": "network"}]},
    });
    std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
}

#[test]
fn a_container_runtime_runs_the_engine_of_an_image() {
    let Some(runtime) = ["crun", "runc"].into_iter().find(|runtime| are_there(&[runtime])) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (bundle, root) = (folder.path(), folder.path().join("rootfs"));
    std::fs::create_dir(&root).unwrap();
    let image = image_of(&programs()["engine"], "engine");
    unpack(&image, &root);
    let run = |arguments: &[&str], input: &str| {
        container(bundle, arguments);
        let id = format!("deskgrid-test-{}-{}", std::process::id(), arguments.len());
        let mut command = Command::new(runtime);
        command.arg("--root").arg(bundle.join("state")).args(["run", "--bundle"]).arg(bundle).arg(&id);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, version, error) = run(&["/usr/bin/engine", "--version"], "");
    if code != Some(0) && !error.contains("engine") {
        println!("skipped: {runtime} starts no container here: {error}");
        return;
    }
    assert!(version.starts_with("engine "), "{code:?} {version} {error}");
    // The engine's own program again, as the desk's: it copies nothing and knows no cloud.
    let (code, out, error) = run(&["/usr/bin/engine", "try", "--", "/usr/bin/engine", "--version"], "an input\n");
    assert_eq!((code, out.starts_with("engine ")), (Some(0), true), "{out}{error}");
    let (code, _, error) = run(&["/usr/bin/engine", "install", "/usr/bin/copy"], "");
    assert_eq!(code, Some(1), "the root filesystem cannot be written: {error}");
    let (code, _, error) = run(&["/usr/bin/engine", "install", "/tmp/copy/engine"], "");
    assert_eq!(code, Some(0), "{error}");
}
