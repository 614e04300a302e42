//! Which images there are. A further one is one more line here, and one more stage in the Dockerfile.

/// One image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the image, and of the stage of the Dockerfile that makes it.
    pub name: &'static str,
    /// Package of the workspace that has the program.
    pub package: &'static str,
    /// The program.
    pub program: &'static str,
    /// What it is for, in a few words.
    pub about: &'static str,
    /// `deploy` needs it, and `build` makes it unless told which ones.
    pub deployed: bool,
}

impl Spec {
    /// The images whose programs are compiled in one run with this one's, itself among them. Features are shared in it.
    pub fn compiled_with(&self) -> impl Iterator<Item = &'static Self> {
        CATALOGUE.iter().filter(|other| other.name == self.name || (self.deployed && other.deployed))
    }

    /// What its image says of itself when it was made from `source`.
    pub fn labels(&self, source: &str) -> Vec<(&'static str, String)> {
        vec![
            ("org.opencontainers.image.title", self.name.to_owned()),
            ("org.opencontainers.image.description", self.about.to_owned()),
            ("org.opencontainers.image.vendor", "Deskgrid".to_owned()),
            ("org.opencontainers.image.licenses", "Apache-2.0".to_owned()),
            ("org.opencontainers.image.revision", source.to_owned()),
        ]
    }
}

/// The Dockerfile, below the root of the workspace.
pub const DOCKERFILE: &str = "services/Dockerfile";

const fn service(name: &'static str, about: &'static str) -> Spec {
    Spec { name, package: name, program: name, about, deployed: true }
}

/// All of them, by name. Those of the services are compiled in one run, so that one cannot change another's features.
pub const CATALOGUE: &[Spec] = &[
    service("client", "the web app that submits jobs and shows results"),
    Spec {
        name: "deskgrid",
        package: "cli",
        program: "deskgrid",
        about: "submit jobs, follow them and fetch results",
        deployed: false,
    },
    service("engine", "reads an input, computes, writes the result"),
    service("monitor", "the web app that shows jobs, pods, logs and latency"),
    service("orchestrator", "turns messages into Kubernetes Jobs, and settles them"),
];

/// The image of a name.
pub fn find(name: &str) -> Option<&'static Spec> {
    CATALOGUE.iter().find(|spec| spec.name == name)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_image_has_a_stage_in_the_dockerfile() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DOCKERFILE);
        let text = std::fs::read_to_string(path).unwrap();
        for spec in CATALOGUE {
            assert!(text.contains(&format!(" AS {}\n", spec.name)), "{DOCKERFILE} lacks a stage {}", spec.name);
            let program = format!("/usr/bin/{}", spec.program);
            assert!(text.contains(&format!("ENTRYPOINT [\"{program}\"]")), "{DOCKERFILE} does not start {program}");
        }
        assert!(CATALOGUE.is_sorted_by_key(|spec| spec.name));
        // The Dockerfile compiles together what is compiled together here.
        let (_, together) = text.split_once("ENV SERVICES=\"").unwrap();
        let packages: Vec<&str> =
            together.split('"').next().unwrap().split("--package").map(str::trim).skip(1).collect();
        for spec in CATALOGUE {
            let with: Vec<&str> = spec.compiled_with().map(|other| other.package).collect();
            assert_eq!(with, if spec.deployed { packages.clone() } else { vec![spec.package] }, "{}", spec.name);
        }
        // Cargo reads no workspace that lacks a manifest, so a new package has to be copied too.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let workspace = std::fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let (_, members) = workspace.split_once("members = [").unwrap();
        for member in members.split_once(']').unwrap().0.split('"').skip(1).step_by(2) {
            let line = format!("COPY {member}/Cargo.toml {member}/\n");
            assert!(text.contains(&line), "{DOCKERFILE} lacks {line}");
        }
    }
}
