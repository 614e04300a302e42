//! The repository's own rules: layout, dependency directions, one TLS provider, module docs.

mod imports;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask has a parent folder").to_owned()
}

/// Files that git tracks. A person's own files are not our business.
fn files() -> Vec<PathBuf> {
    let listed =
        Command::new("git").args(["ls-files", "--cached"]).current_dir(root()).output().expect("run git ls-files");
    assert!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    listed.lines().map(|line| root().join(line)).filter(|path| path.is_file()).collect()
}

/// Which of our packages each package may depend on, tests aside: dependencies point one way.
const ALLOWED: [(&str, &[&str]); 17] = [
    ("contract", &[]),
    ("kernel", &[]),
    ("localcloud", &[]),
    ("images", &["contract"]),
    ("cloud", &["contract"]),
    // It reads tables by the parser that prices them.
    ("sessions", &["cloud", "contract", "kernel"]),
    ("inspect", &["cloud", "contract", "sessions"]),
    ("web", &["cloud", "contract"]),
    ("pool", &["contract"]),
    ("orchestrator", &["cloud", "contract", "pool"]),
    ("engine", &["cloud", "contract", "kernel", "pool"]),
    // It checks inputs by the engine's rules.
    ("client", &["cloud", "contract", "kernel", "sessions", "web"]),
    ("monitor", &["cloud", "contract", "inspect", "sessions", "web"]),
    ("cli", &["cloud", "contract", "inspect", "kernel", "sessions"]),
    ("provision", &["cloud", "contract", "inspect", "sessions"]),
    ("bench", &["cli", "cloud", "contract", "inspect", "localcloud", "provision", "xtask"]),
    ("xtask", &["cli", "cloud", "contract", "images", "inspect", "localcloud", "provision", "sessions"]),
];

fn cargo(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO")).args(arguments).current_dir(root()).output().expect("run cargo")
}

#[test]
fn every_source_file_says_what_it_is_for() {
    let mut silent = Vec::new();
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.starts_with("//!") && path.file_name().is_none_or(|name| name != "tests.rs") {
            silent.push(path);
        }
    }
    assert!(silent.is_empty(), "these files do not open with a //! sentence: {silent:#?}");
}

#[test]
fn text_files_have_no_trailing_space_and_no_path_of_one_machine() {
    // Written apart, so that this file does not find itself.
    let machine_paths = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["/home/", "runner"].concat()];
    let mut offences = Vec::new();
    for path in files() {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if path.file_name().is_some_and(|name| name == "Cargo.lock" || name == "LICENSE") {
            continue;
        }
        let golden = path.components().any(|part| part.as_os_str() == "golden");
        for (number, line) in text.lines().enumerate() {
            if !golden && line.ends_with([' ', '\t']) {
                offences.push(format!("{}:{}: trailing space", path.display(), number + 1));
            }
            if machine_paths
                .iter()
                .any(|machine| line.split(['"', '\'', ' ', '=', '`']).any(|word| word.starts_with(machine.as_str())))
            {
                offences.push(format!("{}:{}: a path of one machine", path.display(), number + 1));
            }
        }
    }
    assert!(offences.is_empty(), "{offences:#?}");
}

#[test]
fn there_is_no_import_cycle() {
    let mut crates: BTreeMap<PathBuf, imports::Files> = BTreeMap::new();
    for path in files().into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs")) {
        let Some(sources) = path.ancestors().find(|folder| folder.ends_with("src")).map(Path::to_owned) else {
            continue;
        };
        let module = path.strip_prefix(&sources).expect("it is in that folder").with_extension("");
        if module.iter().any(|part| part == "tests") {
            continue;
        }
        let parts: Vec<_> = module.iter().map(|part| part.to_string_lossy()).filter(|part| *part != "mod").collect();
        let module = parts.join("::");
        let module = if module == "lib" || module == "main" { String::new() } else { module };
        crates.entry(sources).or_default().insert(module, std::fs::read_to_string(&path).unwrap());
    }
    let cycles = crates.iter().map(|(sources, files)| (sources, imports::cycles(files)));
    let cycles: Vec<_> = cycles.filter(|(_, cycles)| !cycles.is_empty()).collect();
    assert!(cycles.is_empty(), "these files import each other: {cycles:#?}");
}

#[test]
fn every_package_inherits_the_workspace_lints() {
    for path in files().into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let text = std::fs::read_to_string(&path).unwrap();
        let inherits = text.contains("[lints]\nworkspace = true") || text.contains("[workspace]");
        assert!(inherits, "{} lacks [lints] workspace = true", path.display());
    }
}

#[test]
fn dependencies_point_the_agreed_way() {
    let metadata = cargo(&["metadata", "--format-version", "1", "--no-deps", "--offline"]);
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).expect("cargo metadata prints JSON");
    let mut ours: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let dependencies = package["dependencies"].as_array().expect("dependencies").iter();
        let normal = dependencies.filter(|dependency| dependency["kind"].is_null());
        let names = normal.map(|dependency| dependency["name"].as_str().unwrap_or_default().to_owned()).collect();
        ours.insert(package["name"].as_str().unwrap_or_default().to_owned(), names);
    }
    for (package, dependencies) in &ours {
        let allowed = ALLOWED.iter().find(|(name, _)| name == package);
        let Some((_, allowed)) = allowed else { panic!("{package} is not in the table of allowed dependencies") };
        for name in dependencies.iter().filter(|name| ours.contains_key(*name)) {
            assert!(allowed.contains(&name.as_str()), "{package} must not depend on {name}");
        }
    }
    // The kernel computes and does nothing else: whatever can reach a network, a cluster or a clock stays out of it.
    let tree = cargo(&["tree", "--offline", "--package", "kernel", "--edges", "normal", "--prefix", "none"]);
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.lines().any(|line| line.starts_with("serde ")), "cargo tree printed something unexpected: {tree}");
    for name in ["tokio", "hyper", "reqwest", "rustls", "google-cloud", "kube"] {
        assert!(!tree.lines().any(|line| line.starts_with(name)), "kernel must not depend on {name}");
    }
    for package in ["engine", "cloud", "sessions", "client", "web"] {
        let tree = cargo(&["tree", "--offline", "--package", package, "--edges", "normal", "--prefix", "none"]);
        let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
        assert!(tree.contains("google-cloud-storage"), "cargo tree printed something unexpected: {tree}");
        for name in ["kube ", "k8s-openapi "] {
            assert!(!tree.lines().any(|line| line.starts_with(name)), "{package} must not depend on {name}");
        }
    }
}

#[test]
fn there_is_one_tls_provider() {
    let tree = cargo(&["tree", "--offline", "--workspace", "--edges", "normal,build", "--prefix", "none"]);
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.lines().any(|line| line.starts_with("aws-lc-rs ")), "aws-lc-rs is gone from the dependency tree");
    assert!(!tree.lines().any(|line| line.starts_with("ring ")), "ring has come into the dependency tree");
}

#[test]
fn a_build_of_xtask_compiles_dependencies_with_the_features_of_the_workspace() {
    let tree = |packages: &[&str]| {
        let arguments =
            [&["tree", "--offline", "--edges", "normal,build", "--prefix", "none", "--format", "{p} {f}"], packages];
        let tree = String::from_utf8_lossy(&cargo(&arguments.concat()).stdout).into_owned();
        tree.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect::<BTreeSet<String>>()
    };
    let (xtask, workspace) = (tree(&["--package", "xtask"]), tree(&["--workspace"]));
    assert!(xtask.len() > 100, "cargo tree printed something unexpected: {xtask:?}");
    let twice: Vec<&String> = xtask.difference(&workspace).collect();
    assert!(twice.is_empty(), "these are compiled once more for `cargo xtask test`: {twice:?}");
}
