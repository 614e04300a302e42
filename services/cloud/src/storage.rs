//! Operations on objects, with Google's Cloud Storage clients.

mod amend;
mod gzip;
mod present;
mod store;
mod stream;
mod upload;

pub use amend::Replaced;
pub use store::{Object, Properties, Store, Written, is_denied, is_failed_precondition, is_hidden, is_not_found};
pub use stream::{Contents, Incoming};
pub use upload::{Fingerprint, crc32c_of_file};
