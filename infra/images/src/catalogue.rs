//! The list of images. A new image is a new line here.

/// One image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Name of the image.
    pub name: &'static str,
    /// Package of the workspace that has the program.
    pub package: &'static str,
    /// The program.
    pub program: &'static str,
    /// Its purpose, in a few words.
    pub about: &'static str,
    /// `deploy` needs it, and `build` makes it by default.
    pub deployed: bool,
}

impl Spec {
    /// The images whose programs are compiled in one run with this one's, and itself. Programs of a run share features.
    pub fn compiled_with(&self) -> impl Iterator<Item = &'static Self> {
        CATALOGUE.iter().filter(|other| other.name == self.name || (self.deployed && other.deployed))
    }

    /// Labels of its image, when that is made from `source`.
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

const fn service(name: &'static str, about: &'static str) -> Spec {
    Spec { name, package: name, program: name, about, deployed: true }
}

/// All images, by name. The services are compiled in one run, so that they always have the same features.
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
    use super::*;

    #[test]
    fn the_services_are_compiled_together_and_every_other_program_alone() {
        assert!(CATALOGUE.is_sorted_by_key(|spec| spec.name));
        let services: Vec<&str> = CATALOGUE.iter().filter(|spec| spec.deployed).map(|spec| spec.name).collect();
        for spec in CATALOGUE {
            let with: Vec<&str> = spec.compiled_with().map(|other| other.name).collect();
            assert_eq!(with, if spec.deployed { services.clone() } else { vec![spec.name] }, "{}", spec.name);
        }
    }
}
