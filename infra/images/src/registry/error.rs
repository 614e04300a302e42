//! What registries answer when they do not do what they were asked for, and what that means.

use std::fmt;

use oci_client::errors::{OciDistributionError, OciErrorCode};

/// What a registry said no to.
#[derive(Debug)]
pub enum RegistryError {
    /// It wants to know who we are, or does not let us do this.
    Denied(String),
    /// Nobody made the place that it was asked for.
    Missing(String),
    /// It did not answer.
    Unreachable(String),
    /// Anything else.
    Refused(String),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Missing(why) | Self::Unreachable(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for RegistryError {}

/// The status of an answer, if there was one and it is known.
fn status(error: &OciDistributionError) -> Option<u16> {
    use OciDistributionError as E;
    match error {
        E::ServerError { code, .. } => Some(*code),
        E::UnauthorizedError { .. } => Some(401),
        E::RequestError(error) => error.status().map(|status| status.as_u16()),
        _ => None,
    }
}

/// Whether an answer names one of these causes.
fn names(error: &OciDistributionError, causes: &[OciErrorCode]) -> bool {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| causes.contains(&error.code))
        }
        _ => false,
    }
}

/// What was looked for is not there.
pub(super) fn is_missing(error: &OciDistributionError) -> bool {
    use OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};
    matches!(error, OciDistributionError::ImageManifestNotFoundError(_))
        || status(error) == Some(404)
        || names(error, &[ManifestUnknown, NameUnknown, NotFound])
}

/// The registry has too much to do, or has a trouble of its own.
pub(super) fn is_busy(error: &OciDistributionError) -> bool {
    status(error).is_some_and(|status| status == 429 || status >= 500) || names(error, &[OciErrorCode::Toomanyrequests])
}

/// It may go well the next time: the registry is busy, or the way to it is broken.
pub(super) fn is_passing(error: &OciDistributionError) -> bool {
    let broken = |error: &OciDistributionError| match error {
        OciDistributionError::RequestError(error) => error.status().is_none() && !error.is_builder(),
        _ => false,
    };
    is_busy(error) || broken(error)
}

/// What an answer means for whoever asked.
pub(super) fn because(error: OciDistributionError) -> RegistryError {
    use OciDistributionError as E;
    let mut why = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        let more = inner.to_string();
        if !why.contains(&more) {
            why = format!("{why}: {more}");
        }
        source = inner.source();
    }
    match &error {
        E::AuthenticationFailure(_) => RegistryError::Denied(why),
        _ if matches!(status(&error), Some(401 | 403)) => RegistryError::Denied(why),
        _ if names(&error, &[OciErrorCode::Denied, OciErrorCode::Unauthorized]) => RegistryError::Denied(why),
        _ if is_missing(&error) => RegistryError::Missing(why),
        E::RequestError(error) if error.status().is_none() => RegistryError::Unreachable(why),
        _ => RegistryError::Refused(why),
    }
}
