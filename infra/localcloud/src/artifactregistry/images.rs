//! Docker images of repositories, as far as they are known here: digests with tags.

use serde_json::{Value, json};

use super::{Registry, missing};
use crate::{
    google::{call::time_text, error::Result},
    identity::principal::Principal,
};

impl Registry {
    /// Notes an image: `repository` is `LOCATION-docker.pkg.dev/PROJECT/REPOSITORY/IMAGE`. A tag moves to it.
    ///
    /// # Errors
    /// When there is no such repository, or the caller may not write to it.
    pub fn push(&self, caller: &Principal, repository: &str, tag: &str, digest: &str) -> Result<()> {
        let parts: Vec<&str> = repository.splitn(4, '/').collect();
        let [host, project, id, _] = parts.as_slice() else { return Err(missing(repository)) };
        let location = host.trim_end_matches("-docker.pkg.dev");
        let name = format!("projects/{project}/locations/{location}/repositories/{id}");
        self.need(caller, "artifactregistry.repositories.uploadArtifacts", &name)?;
        self.get(&name)?;
        let now = time_text(self.identity.clock.now());
        let uri = format!("{repository}@{digest}");
        let mut state = self.write();
        let images = state.images.entry(name).or_default();
        let same = format!("{repository}@");
        for (other, image) in images.iter_mut().filter(|(other, _)| other.starts_with(&same)) {
            if let Some(tags) = image["tags"].as_array_mut() {
                tags.retain(|found| found != tag || *other == uri);
            }
        }
        let image = images.entry(uri.clone()).or_insert_with(|| {
            json!({"uri": uri, "tags": [], "uploadTime": now, "mediaType": "application/vnd.oci.image.manifest.v1+json"})
        });
        image["updateTime"] = json!(now);
        if let Some(tags) = image["tags"].as_array_mut().filter(|tags| !tags.iter().any(|found| found == tag)) {
            tags.push(json!(tag));
        }
        Ok(())
    }

    /// Images of a repository.
    pub(super) fn images(&self, name: &str) -> Result<Vec<(String, Value)>> {
        self.get(name)?;
        let state = self.read();
        let found = state.images.get(name).into_iter().flatten();
        Ok(found
            .map(|(uri, image)| {
                let mut image = image.clone();
                let id = uri.rsplit('/').next().unwrap_or(uri);
                image["name"] = json!(format!("{name}/dockerImages/{id}"));
                (uri.clone(), image)
            })
            .collect())
    }
}
