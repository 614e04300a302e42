//! Cloud Storage's gRPC API: what is known of objects. Google's clients send data, and we buckets, over JSON.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use http::Request;

use super::{
    Storage,
    list::Query,
    object::Preconditions,
    objects::Source,
    proto::{bucket_name, object, object_patch},
};
use crate::google::{
    error::Result,
    grpc::{self, unary},
    page::PageRequest,
};

/// Answers one call, by its path.
pub(super) async fn answer(storage: Arc<Storage>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    match path.strip_prefix("/google.storage.v2.Storage/") {
        Some("GetObject") => {
            unary(request, |headers, message: proto::GetObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let conditions = Preconditions {
                    generation_match: message.if_generation_match,
                    generation_not_match: message.if_generation_not_match,
                    metageneration_match: message.if_metageneration_match,
                    metageneration_not_match: message.if_metageneration_not_match,
                };
                let source = source(&message.bucket, message.object, message.generation, conditions)?;
                storage.get(&caller, &source).map(|found| object(&found))
            })
            .await
        }
        Some("ListObjects") => {
            unary(request, |headers, message: proto::ListObjectsRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let query = Query {
                    prefix: message.prefix,
                    delimiter: message.delimiter,
                    include_trailing_delimiter: message.include_trailing_delimiter,
                    start: message.lexicographic_start,
                    end: message.lexicographic_end,
                    page: PageRequest { size: i64::from(message.page_size), token: message.page_token },
                };
                let listing = storage.list(&caller, bucket_name(&message.parent)?, &query)?;
                Ok(proto::ListObjectsResponse {
                    objects: listing.objects.iter().map(|found| object(found)).collect(),
                    prefixes: listing.prefixes,
                    next_page_token: listing.next,
                })
            })
            .await
        }
        Some("DeleteObject") => {
            unary(request, |headers, message: proto::DeleteObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let conditions = Preconditions {
                    generation_match: message.if_generation_match,
                    generation_not_match: message.if_generation_not_match,
                    metageneration_match: message.if_metageneration_match,
                    metageneration_not_match: message.if_metageneration_not_match,
                };
                let source = source(&message.bucket, message.object, message.generation, conditions)?;
                storage.delete(&caller, &source)
            })
            .await
        }
        Some("UpdateObject") => {
            unary(request, |headers, message: proto::UpdateObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let desired = message.object.unwrap_or_default();
                let patch = object_patch(&desired, &message.update_mask.unwrap_or_default().paths)?;
                let conditions = Preconditions {
                    generation_match: message.if_generation_match,
                    generation_not_match: message.if_generation_not_match,
                    metageneration_match: message.if_metageneration_match,
                    metageneration_not_match: message.if_metageneration_not_match,
                };
                let source = source(&desired.bucket, desired.name, desired.generation, conditions)?;
                storage.patch(&caller, &source, &patch).map(|found| object(&found))
            })
            .await
        }
        _ => grpc::unimplemented(&path),
    }
}

/// An object; generation 0 means the live one.
fn source(bucket: &str, name: String, generation: i64, preconditions: Preconditions) -> Result<Source> {
    let bucket = bucket_name(bucket)?.to_owned();
    Ok(Source { bucket, name, generation: (generation != 0).then_some(generation), preconditions })
}
