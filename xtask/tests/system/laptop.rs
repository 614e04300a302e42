//! A laptop cloud as a person has it: started by this program, used with the tools that are on PATH.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::world::programs;

/// How long a test waits for something that takes a moment; only a safety net.
const PATIENCE: Duration = Duration::from_secs(120);

/// A laptop cloud that ends with the test, whatever becomes of it.
pub(crate) struct Laptop {
    folder: tempfile::TempDir,
    serve: Child,
    exports: BTreeMap<String, String>,
}

impl Laptop {
    /// Starts one with this environment file and takes the exports that `local env` prints.
    pub(crate) fn start(environment: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("desk.toml");
        std::fs::write(&file, format!("cloud = \"local\"\nlocation = \"europe-west1\"\n{environment}")).unwrap();
        let serve = Command::new(&programs()["xtask"])
            .args(["local", "serve", "--leash"])
            .env("DESKGRID_ENV", &file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut laptop = Self { folder, serve, exports: BTreeMap::new() };
        laptop.exports.insert("DESKGRID_ENV".to_owned(), file.to_string_lossy().into_owned());
        until("the laptop cloud runs", || laptop.xtask("local status").status.success());
        let printed = laptop.ok("xtask local env --json");
        laptop.exports = serde_json::from_str(&printed).unwrap();
        laptop
    }

    /// A folder of the test's own, where commands run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn command(&self, program: &str) -> Command {
        let program = if program == "xtask" { programs()["xtask"].clone() } else { PathBuf::from(program) };
        let mut command = Command::new(program);
        command.envs(&self.exports).env("HOME", self.folder()).current_dir(self.folder()).stdin(Stdio::null());
        command
    }

    fn xtask(&self, line: &str) -> Output {
        self.command("xtask").args(line.split_whitespace()).output().unwrap()
    }

    /// Runs this program as another terminal does, without the exports of `local env`; answers its standard output.
    pub(crate) fn ok_in_another_terminal(&self, line: &str) -> String {
        let mut command = Command::new(&programs()["xtask"]);
        command.env_clear().env("DESKGRID_ENV", &self.exports["DESKGRID_ENV"]).env("HOME", self.folder());
        let output = command.args(line.split_whitespace()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{line}: {}\n{}", output.status, text(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a command line, whose words may be held together by single quotes.
    pub(crate) fn run(&self, line: &str) -> Output {
        let words = words(line);
        self.command(&words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Runs a command line that must end well; answers what it printed on standard output.
    pub(crate) fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{line}: {}\n{out}\n{}", output.status, text(&output.stderr));
        out
    }

    /// Runs a command line that must end well and print this; answers all that it printed.
    pub(crate) fn shows(&self, line: &str, wanted: &str) -> String {
        let out = self.ok(line);
        assert!(out.contains(wanted), "{line}: there is no {wanted:?} in\n{out}");
        out
    }

    /// Runs a command line again and again until it ends well and prints this.
    pub(crate) fn comes_to_show(&self, line: &str, wanted: &str) -> String {
        let mut out = String::new();
        until(&format!("{line} shows {wanted:?}"), || {
            let output = self.run(line);
            out = text(&output.stdout);
            output.status.success() && out.contains(wanted)
        });
        out
    }
}

impl Drop for Laptop {
    fn drop(&mut self) {
        // Lets the leash go.
        drop(self.serve.stdin.take());
        let _ = self.serve.wait();
    }
}

/// True when every program is on PATH; otherwise says what is skipped and why.
pub(crate) fn are_there(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<&&str> = programs.iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        println!("skipped: not on PATH: {missing:?}");
    }
    missing.is_empty()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < PATIENCE, "waited {} s for this: {what}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in line.split('\'').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
