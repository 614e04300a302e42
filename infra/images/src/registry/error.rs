//! Errors of registries, and their meaning.

use std::fmt;

use oci_client::errors::{OciDistributionError, OciErrorCode};

/// Why a registry did not do something.
#[derive(Debug)]
pub enum RegistryError {
    /// The login is missing, or lacks the right.
    Denied(String),
    /// The place does not exist.
    Missing(String),
    /// It did not answer.
    Unreachable(String),
    /// Any other error.
    Refused(String),
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Missing(why) | Self::Unreachable(why) | Self::Refused(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for RegistryError {}

/// The HTTP status, if there was an answer.
fn status(error: &OciDistributionError) -> Option<u16> {
    use OciDistributionError as E;
    match error {
        E::ServerError { code, .. } => Some(*code),
        E::UnauthorizedError { .. } => Some(401),
        E::RequestError(error) => error.status().map(|status| status.as_u16()),
        _ => None,
    }
}

/// Whether an answer has one of these codes.
fn has_code(error: &OciDistributionError, codes: &[OciErrorCode]) -> bool {
    match error {
        OciDistributionError::RegistryError { envelope, .. } => {
            envelope.errors.iter().any(|error| codes.contains(&error.code))
        }
        _ => false,
    }
}

/// The image or its place does not exist.
pub(super) fn is_missing(error: &OciDistributionError) -> bool {
    use OciErrorCode::{ManifestUnknown, NameUnknown, NotFound};
    matches!(error, OciDistributionError::ImageManifestNotFoundError(_))
        || status(error) == Some(404)
        || has_code(error, &[ManifestUnknown, NameUnknown, NotFound])
}

/// The registry is overloaded, or has an internal error.
pub(super) fn is_busy(error: &OciDistributionError) -> bool {
    status(error).is_some_and(|status| status == 429 || status >= 500)
        || has_code(error, &[OciErrorCode::Toomanyrequests])
}

/// The failure is temporary: the registry is busy, or the network failed.
pub(super) fn is_temporary(error: &OciDistributionError) -> bool {
    let broken = |error: &OciDistributionError| match error {
        OciDistributionError::RequestError(error) => error.status().is_none() && !error.is_builder(),
        _ => false,
    };
    is_busy(error) || broken(error)
}

impl From<OciDistributionError> for RegistryError {
    fn from(error: OciDistributionError) -> Self {
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
            _ if has_code(&error, &[OciErrorCode::Denied, OciErrorCode::Unauthorized]) => RegistryError::Denied(why),
            _ if is_missing(&error) => RegistryError::Missing(why),
            E::RequestError(error) if error.status().is_none() => RegistryError::Unreachable(why),
            _ => RegistryError::Refused(why),
        }
    }
}
