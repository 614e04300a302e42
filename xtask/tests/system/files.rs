//! Packs of files, from `submit` to the names in the results, with a pool and with Jobs.

use std::path::{Path, PathBuf};

use cloud::storage::Store;
use contract::{
    object,
    pack::{Format, Layout, files},
};
use localcloud::node::images::Images;
use serde_json::Value;

use crate::setup_verbs::Desk;

const BUCKET: &str = "files-desk-bucket";
/// Two desks that differ in nothing but how they compute: the program says the name of its file, and fails for one.
const FILE: &str = r#"
project = "files-desk"
location = "europe-west1"
cloud = "local"
[businesses.bu1]
dispatch = "pool"
[businesses.bu1.pool]
max = 2
slots = 2
idle = "10s"
[businesses.bu1.engine]
cpu = "200m"
ENGINE
[businesses.bu2]
[businesses.bu2.engine]
cpu = "200m"
ENGINE
"#;
const SCRIPT: &str = r#"read -r x; [ "$x" = bad ] && exit 3; echo "$DESKGRID_NAME has $x""#;

fn deployed() -> Desk {
    let shell = Path::new("/bin/sh");
    let folder = tempfile::tempdir().unwrap();
    let image = Images::new(folder.path().to_owned()).register("registry/shell", shell).unwrap();
    let engine =
        format!("image = \"{image}\"\ncommand = [\"/bin/sh\", \"-c\", '''{SCRIPT}''']\npermanent_exit_codes = [3]");
    let desk = Desk::start(&FILE.replace("ENGINE", &engine));
    Images::new(desk.folder().join("generated/verbs/cloud/cluster/images")).register("registry/shell", shell).unwrap();
    desk.run(&["provision"], 0);
    desk.run(&["deploy"], 0);
    desk
}

/// An archive of files of which one fails.
fn archive(desk: &Desk) -> PathBuf {
    let path = desk.folder().join("books.tar");
    let mut some: Vec<(String, String)> =
        (0..30).map(|file| (format!("d/{file:02}.txt"), format!("{file}\n"))).collect();
    some[7] = ("d/bad.txt".to_owned(), "bad\n".to_owned());
    files::write(std::fs::File::create(&path).unwrap(), some.into_iter().map(Ok)).unwrap();
    path
}

/// The names of a business's objects.
async fn objects(store: &Store, prefix: &str) -> Vec<String> {
    store.list(BUCKET, prefix).await.unwrap().into_iter().map(|object| object.name).collect()
}

/// The layout among the outcomes.
async fn layout(store: &Store, outcomes: &[String]) -> Layout {
    let name = outcomes.iter().find(|name| name.ends_with("-layout.json")).unwrap();
    serde_json::from_slice(&store.read(BUCKET, name, None).await.unwrap().unwrap().1).unwrap()
}

/// Results by job, each its text or its error.
fn results(desk: &Desk, business: &str, session: &str) -> Vec<(String, String)> {
    let rows = desk.json(&["results", "--business", business, "--session", session], 0);
    let text = |row: &Value| row["value"].as_str().or(row["error"].as_str()).unwrap_or_default().to_owned();
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| (row["job"].as_str().unwrap().to_owned(), text(row))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_an_archive_have_results_under_their_names() {
    let _ = cloud::clients::install_tls_provider();
    let desk = deployed();
    let store = Store::connect(&desk.cloud().await.connection()).await.unwrap();
    let path = archive(&desk);
    let bytes = std::fs::read(&path).unwrap();
    let cut = desk.folder().join("cut.tar");
    std::fs::write(&cut, &bytes[..bytes.len() - 1024]).unwrap();
    for business in ["bu1", "bu2"] {
        let submit = ["submit", "--business", business, "--session", "s", "--wait", "--timeout", "4m", "--pack"];
        let said = desk.run(&[&submit[..], &[cut.to_str().unwrap()]].concat(), 1);
        assert!(said.contains("error[malformed-archive]") && said.contains("cut off at \"d/29.txt\""), "{said}");
        assert_eq!(objects(&store, &format!("{business}/input/")).await, Vec::<String>::new(), "nothing was uploaded");
        desk.run(&[&submit[..], &[path.to_str().unwrap()]].concat(), 1);
        let found = results(&desk, business, "s");
        assert_eq!(found.len(), 30, "{found:?}");
        for (file, (job, text)) in found.iter().enumerate() {
            if file == 7 {
                assert!(job == "books.tar/d/bad.txt" && text.contains("program-failed"), "{job} {text}");
            } else {
                assert_eq!(job, &format!("books.tar/d/{file:02}.txt"));
                assert_eq!(text, &format!("d/{file:02}.txt has {file}"));
            }
        }
        let failures = desk.json(&["session", "failures", "s", "--business", business], 0);
        assert_eq!(failures["causes"][0]["examples"][0], "books.tar/d/bad.txt", "{failures}");
        let job = desk.json(&["job", "books.tar", "--business", business, "--item", "7"], 0);
        assert_eq!(job["item"]["name"], "d/bad.txt", "{job}");
        let shown = desk.xtask(&["job", "books.tar", "--business", business]);
        let shown = String::from_utf8(shown.stdout).unwrap();
        assert!(shown.contains("item 7 (d/bad.txt) failed"), "{shown}");
        // The input, which is kept for a retry, its layout, and an outcome for each range; Jobs also write parts.
        let outcomes = objects(&store, &object::outcome_prefix(business, Some("s"))).await;
        let pack = layout(&store, &outcomes).await.pack;
        assert_eq!((pack.format, pack.items, outcomes.len()), (Format::Files, 30, 1 + pack.ranges().len()));
        let parts = objects(&store, &object::output_prefix(business, "s")).await;
        assert!(business == "bu2" || parts.is_empty(), "{parts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files_are_a_pack_by_themselves() {
    let _ = cloud::clients::install_tls_provider();
    let desk = deployed();
    let store = Store::connect(&desk.cloud().await.connection()).await.unwrap();
    let folder = desk.folder().join("scenarios");
    std::fs::create_dir_all(folder.join("d")).unwrap();
    for file in 0..600 {
        std::fs::write(folder.join(format!("d/{file:03}.txt")), format!("{file}\n")).unwrap();
    }
    let path = folder.to_str().unwrap();
    for business in ["bu1", "bu2"] {
        let submit = ["submit", path, "--business", business, "--session", "s", "--wait", "--timeout", "4m"];
        let said = desk.run(&submit, 0);
        assert!(said.contains("600 files of at most 64 KiB become items of 1 Job (scenarios.tar)"), "{said}");
        assert!(said.contains("600 of 600 items succeeded"), "{said}");
        let found = results(&desk, business, "s");
        assert_eq!(found.len(), 600);
        for (file, (job, text)) in found.iter().enumerate() {
            assert_eq!(job, &format!("scenarios.tar/d/{file:03}.txt"));
            assert_eq!(text, &format!("d/{file:03}.txt has {file}"));
        }
        // The input is written and deleted; there are the layout, an outcome for each range, and what Jobs write of it.
        assert_eq!(objects(&store, &format!("{business}/input/")).await, Vec::<String>::new());
        let outcomes = objects(&store, &object::outcome_prefix(business, Some("s"))).await;
        let ranges = layout(&store, &outcomes).await.pack.ranges().len();
        let parts = objects(&store, &object::output_prefix(business, "s")).await.len();
        let writes = 2 + outcomes.len() + parts;
        assert!(outcomes.len() == 1 + ranges && writes < 600, "{ranges} ranges, {outcomes:?}, {parts} parts");
        assert!(business == "bu2" || writes == 2 + 1 + 16, "{writes} writes in the pool");
        // Again: nothing is computed twice.
        let said = desk.run(&submit, 0);
        assert!(said.contains("1 Job had ended in this session before"), "{said}");
        assert_eq!(objects(&store, &object::outcome_prefix(business, Some("s"))).await, outcomes);
    }
    // Apart on request, and where the session has some of them apart already.
    for options in [&["--each"][..], &[]] {
        let submit = [&["submit", path, "--business", "bu1", "--session", "apart"], options].concat();
        assert_eq!(desk.json(&submit, 0)["jobs"].as_array().unwrap().len(), 600);
    }
}
