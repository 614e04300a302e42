//! The Python package: its own tests, against a laptop cloud with a pool.

use std::{path::Path, process::Command};

use crate::{
    laptop::{Laptop, are_there},
    world::programs,
};

const FILE: &str = r#"
project = "python-desk"
[businesses.bu1]
dispatch = "pool"
[businesses.bu1.pool]
min = 1
max = 2
slots = 2
[businesses.bu1.engine]
cpu = "200m"
"#;

#[test]
fn the_python_package_passes_its_tests() {
    if !are_there(&["python3"]) {
        return;
    }
    let version = "import sys; sys.exit(sys.version_info < (3, 10))";
    if !Command::new("python3").args(["-c", version]).status().unwrap().success() {
        println!("skipped: python3 is older than 3.10");
        return;
    }
    let laptop = Laptop::start(FILE);
    laptop.ok("xtask provision --yes");
    laptop.ok("xtask deploy --yes");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let ended = laptop.run(&format!(
        "env PYTHONPATH={package} PYTHONDONTWRITEBYTECODE=1 DESKGRID_PROGRAM={program} DESKGRID_CONFIG={config} \
         python3 -X dev -W error -m unittest discover --verbose --start-directory {package}/tests",
        package = package.display(),
        program = programs()["deskgrid"].display(),
        config = laptop.folder().join("generated/desk/config.json").display(),
    ));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    println!("{said}");
}
