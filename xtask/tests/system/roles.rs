//! `doctor --roles` as a person runs it, without a login: files that `gcloud iam roles create` reads, and commands.

use provision::{environment, least_role::least};

use crate::setup_verbs::Desk;

const KEY: &str = "projects/keys-one/locations/europe-west1/keyRings/r/cryptoKeys/k";

#[test]
fn the_least_roles_are_printed_with_the_commands_that_create_and_grant_them() {
    let desk = Desk::new(&format!(
        "project = \"role-desk\"\nlocation = \"europe-west1\"\n[security.kms_keys]\nbucket = \"{KEY}\"\n[businesses.bu1]\n"
    ));
    let environment = environment::load(&desk.file(), &Default::default()).unwrap();
    let expected = least(&environment, None);
    let ended = desk.xtask(&["doctor", "--roles"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(0), "{said}");
    let text = String::from_utf8(ended.stdout).unwrap();
    let (comments, files): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    let files = files.join("\n") + "\n";
    let files: Vec<&str> = files.split("---\n").filter(|file| !file.is_empty()).collect();
    let roles: Vec<String> = expected.roles.iter().map(provision::least_role::Role::yaml).collect();
    assert_eq!(files, roles);
    assert!(files.len() > 1 && files[0].contains("\n- pubsub.topics.create\n") && files[1].contains("\n- cloudkms."));
    for command in expected.roles.iter().flat_map(|role| &role.commands).chain(&expected.others) {
        assert!(comments.iter().any(|line| line.ends_with(command)), "{command} is not in {comments:#?}");
    }
    let json = desk.json(&["doctor", "--roles"], 0);
    assert_eq!(json, serde_json::to_value(&expected).unwrap());
}
