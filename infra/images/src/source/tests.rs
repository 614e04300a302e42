//! The files of the source, and the images whose tags change with a file.

use super::*;
use crate::catalogue::CATALOGUE;

fn git(root: &Path, arguments: &[&str]) {
    let status = Command::new("git").args(arguments).current_dir(root).output().unwrap().status;
    assert!(status.success(), "git {arguments:?}");
}

#[test]
fn the_source_is_the_tracked_files_with_their_contents_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |path: &str, text: &str| {
        std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
        std::fs::write(root.join(path), text).unwrap();
    };
    git(root, &["init", "-q"]);
    assert!(Source::read(root).unwrap_err().to_string().contains("Cargo.lock"));
    for path in ["Cargo.lock", "services/engine/src/main.rs", "services/engine/tests/it/main.rs", "README.md"] {
        write(path, "one");
    }
    write("Cargo.toml", "[workspace]\nmembers = [\"services/engine\"]\nresolver = \"3\"\n");
    write("services/engine/Cargo.toml", "[package]\nname = \"engine\"\n");
    git(root, &["add", "."]);
    write("services/engine/src/new.rs", "untracked");
    let source = Source::read(root).unwrap();
    assert_eq!(source.files(), 4);
    assert_eq!(source.unknown, ["services/engine/src/new.rs"]);
    let (tag, tar) = (source.tag(), source.tar_gz().unwrap());

    // Times, documents and tests do not change the source.
    write("README.md", "two");
    write("services/engine/tests/it/main.rs", "two");
    write("Cargo.lock", "one");
    let same = Source::read(root).unwrap();
    assert_eq!((same.tag(), same.tar_gz().unwrap()), (tag.clone(), tar));
    write("Cargo.lock", "two");
    assert_ne!(Source::read(root).unwrap().tag(), tag);
}

/// The source of this very workspace.
fn real() -> Source {
    Source::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).unwrap()
}

fn tags(source: &Source) -> Vec<String> {
    CATALOGUE.iter().map(|spec| source.tag_of(spec, &[]).unwrap()).collect()
}

/// The images whose tags change when this file changes.
fn changed(source: &Source, path: &str) -> Vec<&'static str> {
    let mut other = source.clone();
    let item = other.items.iter_mut().find(|item| item.path == path);
    item.unwrap_or_else(|| panic!("there is no {path}")).bytes.push(b'\n');
    let (before, after) = (tags(source), tags(&other));
    let differ = CATALOGUE.iter().zip(before.iter().zip(&after)).filter(|(_, (before, after))| before != after);
    differ.map(|(spec, _)| spec.name).collect()
}

#[test]
fn the_tag_of_an_image_changes_with_its_contents() {
    let source = real();
    let services = ["client", "engine", "monitor", "orchestrator"];
    let all = ["client", "deskgrid", "engine", "monitor", "orchestrator"];
    for (path, expected) in [
        ("manifests/orchestrator.yaml", &[][..]),
        ("services/cli/src/lib.rs", &["deskgrid"]),
        ("infra/provision/src/plan.rs", &[]),
        ("services/contract/src/lib.rs", &all),
        ("services/kernel/src/lib.rs", &["client", "deskgrid", "engine", "monitor"]),
        ("services/monitor/src/lib.rs", &["monitor"]),
        ("services/engine/src/lib.rs", &["engine"]),
        // It can ask for a feature of a crate that the other services have too.
        ("services/web/Cargo.toml", &services),
        ("Cargo.lock", &all),
        (".cargo/config.toml", &all),
        // How an image is put together.
        ("infra/images/src/layer.rs", &all),
    ] {
        assert_eq!(changed(&source, path), expected, "{path}");
    }
    assert_ne!(source.tag_of(&CATALOGUE[0], &["1.95.0"]).unwrap(), tags(&source)[0]);
}

#[test]
fn files_that_a_package_includes_from_outside_its_folder_are_in_its_manifest() {
    let source = real();
    let mut outside = 0;
    let is_test = |path: &str| path.ends_with("/tests.rs") || path.contains("/tests/");
    for item in source.items.iter().filter(|item| item.path.ends_with(".rs") && !is_test(&item.path)) {
        let Some(owner) = source.workspace.owner(&item.path) else { continue };
        let compiled = source.workspace.compiled(&[owner]).unwrap();
        let text = String::from_utf8_lossy(&item.bytes);
        for call in ["include_str!(\"", "include_bytes!(\""] {
            for included in text.split(call).skip(1).filter_map(|rest| rest.split('"').next()) {
                let mut path: Vec<&str> = item.path.split('/').collect();
                path.pop();
                for part in included.split('/') {
                    if part == ".." {
                        path.pop();
                    } else {
                        path.push(part);
                    }
                }
                let path = path.join("/");
                let is_listed = compiled.iter().any(|place| path.starts_with(&format!("{place}/")));
                assert!(is_listed, "{} includes {path}: name it in package.metadata.deskgrid.reads", item.path);
                outside += usize::from(source.workspace.owner(&path) != Some(owner));
            }
        }
    }
    assert!(outside > 0, "the templates of manifests are not among them");
}
