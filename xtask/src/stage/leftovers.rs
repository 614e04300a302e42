//! Leftovers of a stage: processes, open ports, files.

use std::{net::TcpStream, path::Path, time::Duration};

use provision::LocalState;

/// Processes, ports and files that should be gone and are not.
pub fn find(folder: &Path, state: Option<&LocalState>) -> Vec<String> {
    let mut left = processes(folder);
    if let Some(state) = state {
        for (api, address) in crate::verbs::local::addresses(state).unwrap_or_default() {
            let host = address.rsplit('/').next().unwrap_or_default();
            let Ok(socket) = host.parse() else { continue };
            if TcpStream::connect_timeout(&socket, Duration::from_millis(200)).is_ok() {
                left.push(format!("something listens for {api} on {address}"));
            }
        }
    }
    if folder.exists() {
        left.push(format!("the folder {}", folder.display()));
    }
    left
}

/// One line for a person.
pub fn describe(left: &[String]) -> String {
    if left.is_empty() {
        "stopped: no process, no open port and no file is left".to_owned()
    } else {
        format!("left behind: {}", left.join("; "))
    }
}

/// Processes whose program or arguments are below the folder.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_string_lossy();
    let listed = std::process::Command::new("ps").args(["-axww", "-o", "pid=,args="]).output();
    let lines: Vec<String> = match listed {
        Ok(listed) if listed.status.success() => {
            String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
        }
        // A machine without `ps`, such as a slim container: /proc has the same.
        _ => from_proc(),
    };
    lines
        .into_iter()
        .filter(|line| line.contains(folder.as_ref()))
        .map(|line| format!("process {}", line.trim()))
        .collect()
}

fn from_proc() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let arguments = std::fs::read(entry.path().join("cmdline")).ok()?;
            let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
            Some(format!("{} {arguments}", entry.file_name().to_string_lossy()))
        })
        .collect()
}
