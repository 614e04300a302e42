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
fn a_task_needs_an_index_below_the_number_of_tasks() {
    let folder = tempfile::tempdir().unwrap();
    let mut variables = variables(folder.path());
    assert_eq!(Settings::read(&variables).unwrap().task(), Share::ALL);
    let mut work = crate::input::tests::work();
    work.tasks = Some(3);
    variables.insert(labels::ENV_WORK.to_owned(), serde_json::to_string(&work).unwrap());
    assert!(Settings::read(&variables).unwrap_err().to_string().contains("JOB_COMPLETION_INDEX"));
    for (index, valid) in [("2", true), ("3", false), ("x", false)] {
        variables.insert(labels::ENV_JOB_COMPLETION_INDEX.to_owned(), index.to_owned());
        assert_eq!(Settings::read(&variables).is_ok(), valid, "{index}");
    }
    variables.insert(labels::ENV_JOB_COMPLETION_INDEX.to_owned(), "2".to_owned());
    assert_eq!(Settings::read(&variables).unwrap().task(), Share { index: 2, count: 3 });
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
