//! Settings from environment variables.

use super::*;

fn variables(folder: &Path) -> BTreeMap<String, String> {
    let path = folder.join("config.json");
    std::fs::write(&path, serde_json::to_vec(&contract::testing::config(&["bu1"])).unwrap()).unwrap();
    [
        (labels::ENV_CONFIG, path.display().to_string()),
        (labels::ENV_WORK, serde_json::to_string(&crate::input::tests::work()).unwrap()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let mut invalid = BTreeMap::from([(labels::ENV_THREADS.to_owned(), "0".to_owned())]);
    invalid.insert(labels::ENV_ENGINE_STOP_AT.to_owned(), "never".to_owned());
    let error = Settings::read(&invalid).unwrap_err().to_string();
    for name in [labels::ENV_CONFIG, labels::ENV_WORK, labels::ENV_THREADS, labels::ENV_ENGINE_STOP_AT] {
        assert!(error.contains(name), "{name} in {error}");
    }
}

#[test]
fn a_pack_needs_a_range_and_a_pod() {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = variables(folder.path());
    let mut work = crate::input::tests::work();
    let pack = contract::pack::Pack::new(contract::pack::Format::Lines, 3, 1, 1);
    let mut check = |work: &Work, pod: &str, expected: Option<&str>| {
        variables.insert(labels::ENV_WORK.to_owned(), serde_json::to_string(work).unwrap());
        variables.remove(labels::ENV_POD);
        variables.extend((!pod.is_empty()).then(|| (labels::ENV_POD.to_owned(), pod.to_owned())));
        match (Settings::read(&variables), expected) {
            (Ok(settings), None) => assert_eq!(settings.pod, pod),
            (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (read, expected) => panic!("{read:?}, not {expected:?}"),
        }
    };
    check(&work, "", None);
    work.pack = Some(pack.clone());
    check(&work, "pod-a", Some("names no range"));
    work.identity.first = Some(1);
    check(&work, "pod-a", Some("first item: 1"));
    work.identity.first = Some(0);
    check(&work, "pod-a", None);
    check(&work, "", Some(labels::ENV_POD));
    work.pack = Some(contract::pack::Pack { rows_per_item: 0, ..pack });
    check(&work, "pod-a", Some("at least 1 row"));
}

#[test]
fn an_input_in_another_bucket_is_not_computed() {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = variables(folder.path());
    let mut work = crate::input::tests::work();
    work.identity.bucket = "other".to_owned();
    variables.insert(labels::ENV_WORK.to_owned(), serde_json::to_string(&work).unwrap());
    assert!(Settings::read(&variables).unwrap_err().to_string().contains("other"));
}
