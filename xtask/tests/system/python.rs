//! The Python package: its own tests, against a laptop cloud with a pool.

use std::{path::Path, process::Command};

use localcloud::node::images::Images;

use crate::{
    laptop::{Laptop, are_there},
    world::programs,
};

/// A business whose engines run the kernel, one whose engines compute calls of Python functions, and one whose engines run
/// a function of the tests.
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
[businesses.bu2]
dispatch = "pool"
[businesses.bu2.pool]
min = 1
max = 2
slots = 2
[businesses.bu2.engine]
cpu = "200m"
memory = "512Mi"
resident = true
WORKER]
[businesses.bu3]
dispatch = "pool"
[businesses.bu3.pool]
max = 1
[businesses.bu3.engine]
cpu = "200m"
memory = "512Mi"
resident = true
WORKER, "desk:price"]
"#;

#[test]
fn the_python_package_passes_its_tests() {
    if !are_there(&["python3"]) {
        return;
    }
    let version = "import sys; print(sys.executable); sys.exit(sys.version_info < (3, 10))";
    let version = Command::new("python3").args(["-c", version]).output().unwrap();
    if !version.status.success() {
        println!("skipped: python3 is older than 3.10");
        return;
    }
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python").canonicalize().unwrap();
    let shell = Path::new("/bin/sh");
    let worker = format!(
        "image = {:?}\ncommand = [\"/usr/bin/env\", \"PYTHONPATH={1}:{1}/tests\", {2:?}, \"-m\", \"deskgrid.worker\"",
        Images::reference("registry/shell", shell).unwrap(),
        package.display(),
        String::from_utf8(version.stdout).unwrap().trim(),
    );
    let laptop = Laptop::start(&FILE.replace("WORKER", &worker));
    let images = laptop.folder().join("generated/desk/cloud/cluster/images");
    Images::new(images).register("registry/shell", shell).unwrap();
    laptop.ok("xtask provision --yes");
    laptop.ok("xtask deploy --yes");
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
