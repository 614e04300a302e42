//! What a container's process is started with: environment, program and arguments, with mount paths made real.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde_json::Value;

use super::{
    downward,
    images::Image,
    volumes::{config_data, secret_data},
};
use crate::kubernetes::{
    cluster::Cluster,
    kinds,
    value::{self, items, text, truth},
};

/// Mount paths of a container, with the real folder of each; the longest come first.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<(String, PathBuf)>);

impl Mounts {
    /// The mounts of a container.
    ///
    /// # Errors
    /// When one names a volume that the pod does not have.
    pub fn of(container: &Value, volumes: &BTreeMap<String, PathBuf>) -> anyhow::Result<Self> {
        let mut mounts = Vec::new();
        for mount in items(container, "/volumeMounts") {
            let name = text(mount, "/name");
            let volume = volumes.get(name).with_context(|| format!("find volume {name:?}"))?;
            let real = match text(mount, "/subPath") {
                "" => volume.clone(),
                inner if inner.split('/').any(|part| part == "..") => bail!("subPath {inner:?} leaves its volume"),
                inner => volume.join(inner),
            };
            let path = text(mount, "/mountPath");
            mounts.push((if path == "/" { path } else { path.trim_end_matches('/') }.to_owned(), real));
        }
        mounts.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Ok(Self(mounts))
    }

    /// A text with the mount path that it begins with, or that follows its first `=`, made real.
    pub fn localize(&self, text: &str) -> String {
        if let Some(real) = self.real(text) {
            return real;
        }
        match text.split_once('=').and_then(|(key, path)| Some((key, self.real(path)?))) {
            Some((key, real)) => format!("{key}={real}"),
            None => text.to_owned(),
        }
    }

    /// The real place of a path inside a mount.
    pub fn real(&self, path: &str) -> Option<String> {
        self.0.iter().find_map(|(mount, real)| {
            let rest = path.strip_prefix(mount.as_str())?;
            let inside = rest.is_empty() || rest.starts_with('/');
            inside.then(|| format!("{}{rest}", real.display()))
        })
    }
}

/// The variables of a container.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// The environment of its process.
    pub all: BTreeMap<String, String>,
    /// Those that `$(VAR)` may name: of services, and the container's own.
    known: BTreeMap<String, String>,
}

/// Whether a variable of the node is one that Kubernetes itself would define, as it does for services; `HOME` or `PATH`
/// are those of the image. The ports of a pod on a laptop differ from pod to pod, so a command must be able to name
/// them.
fn is_of_a_service(name: &str) -> bool {
    ["KUBERNETES_SERVICE_", "DESKGRID_PORT_"].iter().any(|prefix| name.starts_with(prefix))
}

/// The environment of a container: `base`, then what the container says, each with `$(VAR)` replaced.
///
/// # Errors
/// When something it refers to is missing.
pub fn environment(
    cluster: &Cluster,
    pod: &Value,
    container: &Value,
    base: Vec<(String, String)>,
    mounts: &Mounts,
) -> anyhow::Result<Variables> {
    if container.get("envFrom").is_some_and(|sources| !sources.is_null()) {
        bail!("the laptop cloud has no envFrom");
    }
    let mut all: BTreeMap<String, String> = base.into_iter().collect();
    let mut known = all.clone();
    known.retain(|name, _| is_of_a_service(name));
    for variable in items(container, "/env") {
        let found = match variable.get("valueFrom").filter(|from| !from.is_null()) {
            Some(from) => referenced(cluster, pod, from)?,
            None => Some(expand(text(variable, "/value"), &known)),
        };
        if let Some(found) = found {
            let (name, found) = (text(variable, "/name").to_owned(), mounts.localize(&found));
            all.insert(name.clone(), found.clone());
            known.insert(name, found);
        }
    }
    Ok(Variables { all, known })
}

fn referenced(cluster: &Cluster, pod: &Value, from: &Value) -> anyhow::Result<Option<String>> {
    if let Some(path) = from.pointer("/fieldRef/fieldPath").and_then(Value::as_str) {
        return downward::field(pod, path).map(Some).with_context(|| format!("unsupported fieldPath: {path}"));
    }
    for (field, kind) in [("configMapKeyRef", "configmap"), ("secretKeyRef", "secret")] {
        let Some(reference) = from.get(field) else { continue };
        let (name, key, optional) = (text(reference, "/name"), text(reference, "/key"), truth(reference, "/optional"));
        let data = data(cluster, kind, value::namespace(pod), name, optional)?;
        let found = data.as_ref().and_then(|data| data.get(key));
        return match found {
            Some(bytes) => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            None if optional => Ok(None),
            None => bail!("couldn't find key {key} in {kind} {}/{name}", value::namespace(pod)),
        };
    }
    bail!("the laptop cloud has no variable of this kind: {from}")
}

fn data(
    cluster: &Cluster,
    kind: &str,
    namespace: &str,
    name: &str,
    optional: bool,
) -> anyhow::Result<Option<BTreeMap<String, Vec<u8>>>> {
    let is_secret = kind == "secret";
    let found = cluster.store.get(if is_secret { &kinds::SECRET } else { &kinds::CONFIG_MAP }, namespace, name);
    match found {
        Some(object) => Ok(Some(if is_secret { secret_data(&object) } else { config_data(&object) })),
        None if optional => Ok(None),
        None => bail!("{kind} {name:?} not found"),
    }
}

/// `text` with `$(NAME)` replaced by variables that are defined, and `$$` by `$`, byte for byte as Kubernetes does it
/// (third_party/forked/golang/expansion/expand.go).
pub fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let bytes = text.as_bytes();
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        at += match &bytes[at..] {
            [b'$', b'$', ..] => {
                result.push(b'$');
                2
            }
            [b'$', b'(', after @ ..] => match after.iter().position(|byte| *byte == b')') {
                Some(end) => {
                    let whole = &text[at..at + end + 3];
                    result.extend(variables.get(&whole[2..end + 2]).map_or(whole, String::as_str).bytes());
                    end + 3
                }
                None => {
                    result.extend(b"$(");
                    2
                }
            },
            // Go makes a character of the byte.
            [b'$', other, ..] => {
                result.extend(format!("${}", char::from(*other)).bytes());
                2
            }
            [other, ..] => {
                result.push(*other);
                1
            }
            [] => break,
        };
    }
    String::from_utf8_lossy(&result).into_owned()
}

/// Program and arguments of a container.
///
/// # Errors
/// When the program is nowhere on the search path.
pub fn command(
    container: &Value,
    image: &Image,
    variables: &Variables,
    mounts: &Mounts,
) -> anyhow::Result<(PathBuf, Vec<String>)> {
    let words = |pointer: &str| -> Vec<String> {
        let words = items(container, pointer).iter().filter_map(Value::as_str);
        words.map(|word| mounts.localize(&expand(word, &variables.known))).collect()
    };
    let (mut command, arguments) = (words("/command"), words("/args"));
    if command.is_empty() {
        return Ok((image.program.clone(), arguments));
    }
    let desired = command.remove(0);
    command.extend(arguments);
    Ok((program(&desired, image, &variables.all)?, command))
}

/// The program of a name: a path that exists, the image's own, or one on the search path.
fn program(desired: &str, image: &Image, environment: &BTreeMap<String, String>) -> anyhow::Result<PathBuf> {
    let path = Path::new(desired);
    if path.is_absolute() && path.exists() {
        return Ok(path.to_owned());
    }
    // A path in the image's file system, which is the program alone.
    if path.file_name().is_some() && path.file_name() == image.program.file_name() {
        return Ok(image.program.clone());
    }
    let search = environment.get("PATH").map_or("", String::as_str);
    let found = search.split(':').map(|folder| Path::new(folder).join(desired)).find(|path| path.is_file());
    found
        .filter(|_| !desired.contains('/'))
        .with_context(|| format!("exec: {desired:?}: executable file not found in $PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_expand_as_kubernetes_does() {
        let variables = BTreeMap::from([("A".to_owned(), "1".to_owned())]);
        // The cases of third_party/forked/golang/expansion/expand_test.go that differ in kind.
        for (text, expected) in [
            ("$(A)/$(B)", "1/$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$$$$(A)", "$$(A)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$($(A))", "$($(A))"),
            ("$()", "$()"),
            ("$?\\$(A)", "$?\\1"),
            // Go turns the byte after `$`, not the character, into text.
            ("$é", "$Ã\u{fffd}"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn mount_paths_become_real() {
        let mounts = Mounts(vec![("/scratch/in".into(), "/r/b".into()), ("/scratch".into(), "/r/a".into())]);
        for (text, expected) in [
            ("/scratch", "/r/a"),
            ("/scratch/in/x", "/r/b/x"),
            ("/scratchers", "/scratchers"),
            ("--out=/scratch/y", "--out=/r/a/y"),
            ("x /scratch", "x /scratch"),
        ] {
            assert_eq!(mounts.localize(text), expected);
        }
    }
}
