//! Tests of what a laptop cloud does to its folder.

use super::*;

#[test]
fn tokens_of_an_earlier_laptop_cloud_are_forgotten_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    forget_tokens(folder.path()).unwrap();
    std::fs::create_dir_all(folder.path().join("gcloud/configurations")).unwrap();
    std::fs::write(folder.path().join("gcloud/access_tokens.db"), "old").unwrap();
    std::fs::write(folder.path().join("gcloud/configurations/config_default"), "kept").unwrap();
    forget_tokens(folder.path()).unwrap();
    assert!(!folder.path().join("gcloud/access_tokens.db").exists());
    assert!(folder.path().join("gcloud/configurations/config_default").exists());
}
