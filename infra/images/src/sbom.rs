//! The bill of materials of a program: every crate that is compiled into it, as an SPDX 2.3 document.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use serde_json::{Value, json};

/// A part of a program that is not a crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
}

/// Its path in an image, where scanners find it.
pub(crate) fn path(image: &str) -> String {
    format!("usr/share/doc/{image}/sbom.spdx.json")
}

/// The document of one package, from the output of `cargo metadata`.
///
/// # Errors
/// When the output is malformed, or has no such package.
pub fn spdx(metadata: &Value, package: &str, source: &str, parts: &[Part]) -> anyhow::Result<Value> {
    let packages = metadata["packages"].as_array().context("find the packages in what cargo printed")?;
    let by_id: BTreeMap<&str, &Value> =
        packages.iter().filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let nodes: BTreeMap<&str, &Value> = metadata["resolve"]["nodes"]
        .as_array()
        .context("find the graph in what cargo printed")?
        .iter()
        .filter_map(|node| Some((node["id"].as_str()?, node)))
        .collect();
    let root = packages
        .iter()
        .find(|found| found["name"] == package && found["source"].is_null())
        .and_then(|found| found["id"].as_str())
        .with_context(|| format!("find the package {package} in what cargo printed"))?;
    let (mut seen, mut open) = (BTreeSet::from([root]), vec![root]);
    let mut edges = BTreeSet::new();
    while let Some(id) = open.pop() {
        for dependency in nodes.get(id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            // Dependencies of tests and of build scripts are not in the program.
            let linked =
                dependency["dep_kinds"].as_array().is_none_or(|kinds| kinds.iter().any(|k| k["kind"].is_null()));
            let Some(other) = dependency["pkg"].as_str().filter(|_| linked) else { continue };
            edges.insert((id, other));
            if seen.insert(other) {
                open.push(other);
            }
        }
    }
    let mut described: Vec<Value> = seen.iter().filter_map(|id| by_id.get(id)).map(|found| describe(found)).collect();
    described.extend(parts.iter().map(|part| {
        json!({
            "SPDXID": part_id(part),
            "name": part.name,
            "versionInfo": part.version,
            "downloadLocation": "NOASSERTION",
        })
    }));
    described.sort_by_cached_key(|found| found["SPDXID"].to_string());
    let relation = |from: String, kind: &str, to: String| json!({"spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to});
    let id_of = |id: &str| by_id.get(id).map(|found| id_of(found)).unwrap_or_default();
    let mut relations = vec![relation("SPDXRef-DOCUMENT".to_owned(), "DESCRIBES", id_of(root))];
    relations.extend(edges.iter().map(|(from, to)| relation(id_of(from), "DEPENDS_ON", id_of(to))));
    relations.extend(parts.iter().map(|part| relation(id_of(root), "CONTAINS", part_id(part))));
    Ok(json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": package,
        "documentNamespace": format!("https://deskgrid.dev/spdx/{package}/{source}"),
        // The same document for the same source.
        "creationInfo": {"created": "1970-01-01T00:00:00Z", "creators": ["Organization: Deskgrid"]},
        "packages": described,
        "relationships": relations,
    }))
}

fn describe(package: &Value) -> Value {
    let (name, version) = (text(package, "name"), text(package, "version"));
    let published = !package["source"].is_null();
    let mut found = json!({
        "SPDXID": id_of(package),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "licenseDeclared": package["license"].as_str().map_or("NOASSERTION".to_owned(), |text| text.replace('/', " OR ")),
        "primaryPackagePurpose": if published { "LIBRARY" } else { "APPLICATION" },
    });
    if published {
        found["externalRefs"] = json!([{
            "referenceCategory": "PACKAGE-MANAGER",
            "referenceType": "purl",
            "referenceLocator": format!("pkg:cargo/{name}@{}", version.replace('+', "%2B")),
        }]);
    }
    found
}

fn text<'a>(package: &'a Value, key: &str) -> &'a str {
    package[key].as_str().unwrap_or_default()
}

fn id_of(package: &Value) -> String {
    identifier(&format!("{}-{}", text(package, "name"), text(package, "version")))
}

fn part_id(part: &Part) -> String {
    identifier(&format!("part-{}-{}", part.name, part.version))
}

/// Letters, digits, `.` and `-` are all that an identifier may have.
fn identifier(text: &str) -> String {
    let plain = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' });
    format!("SPDXRef-{}", plain.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_and_what_only_builds_or_tests_is_not() {
        let package = |name: &str, source: Value| json!({"id": name, "name": name, "version": "1.0.0", "source": source, "license": "MIT/Apache-2.0"});
        let to = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("engine", Value::Null), package("linked", json!("registry")), package("deep_one", json!("registry")), package("cc", json!("registry")), package("other", json!("registry"))],
            "resolve": {"nodes": [
                {"id": "engine", "deps": [to("linked", Value::Null), to("cc", json!("build")), to("other", json!("dev"))]},
                {"id": "linked", "deps": [to("deep_one", Value::Null)]},
                {"id": "deep_one", "deps": []},
            ]},
        });
        let part = Part { name: "glibc".to_owned(), version: "2.36".to_owned() };
        let document = spdx(&metadata, "engine", "src-1", &[part]).unwrap();
        let names: Vec<&str> =
            document["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["deep_one", "engine", "linked", "glibc"]);
        assert_eq!(document["packages"][0]["licenseDeclared"], "MIT OR Apache-2.0");
        assert_eq!(document["packages"][0]["externalRefs"][0]["referenceLocator"], "pkg:cargo/deep_one@1.0.0");
        assert_eq!(document["relationships"].as_array().unwrap().len(), 4);
        assert!(spdx(&metadata, "nobody", "src-1", &[]).is_err());
    }
}
