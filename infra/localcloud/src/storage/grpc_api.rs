//! Cloud Storage's gRPC API: everything but data.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use googleapis_tonic_google_storage_v2::google::{iam::v1 as iam, storage::v2 as proto};
use http::Request;

use super::{
    Storage,
    buckets::Metageneration,
    list::Query,
    object::Preconditions,
    objects::{Destination, Source},
    proto::{attributes, bucket_json, bucket_name, checksums, generation, object_patch},
};
use crate::{
    google::{
        error::Error,
        grpc::{self, unary},
        page::Ask,
    },
    identity::proto::requested_version,
};

/// Answers one call, by its path.
pub(super) async fn answer(storage: Arc<Storage>, request: Request<Body>) -> Response {
    let path = request.uri().path().to_owned();
    // Google's clients ask the control service for policies; the messages are the same.
    let method = match path.rsplit_once('/') {
        Some(("/google.storage.v2.Storage", method)) => method,
        Some(("/google.storage.control.v2.StorageControl", method)) if method.contains("Iam") => method,
        _ => return grpc::unimplemented(&path),
    };
    match method {
        "GetBucket" | "ListBuckets" | "CreateBucket" | "DeleteBucket" | "UpdateBucket" => {
            buckets(storage, method, request).await
        }
        "GetIamPolicy" | "SetIamPolicy" | "TestIamPermissions" => policy(storage, method, request).await,
        "ReadObject" | "BidiReadObject" | "WriteObject" => super::grpc_data::answer(storage, method, request).await,
        _ => objects(storage, method, request).await,
    }
}

async fn buckets(storage: Arc<Storage>, method: &str, request: Request<Body>) -> Response {
    let number = storage.identity.number();
    match method {
        "GetBucket" => {
            unary(request, move |headers, message: proto::GetBucketRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let condition = Metageneration {
                    matches: message.if_metageneration_match,
                    not_matches: message.if_metageneration_not_match,
                };
                let found = storage.get_bucket(&caller, bucket_name(&message.name)?, condition)?;
                Ok(super::proto::bucket(&found, number))
            })
            .await
        }
        "ListBuckets" => {
            unary(request, move |headers, message: proto::ListBucketsRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let project = message.parent.strip_prefix("projects/").unwrap_or(&message.parent);
                let ask = Ask { size: i64::from(message.page_size), token: message.page_token.clone() };
                let prefix = message.prefix.strip_prefix("projects/_/buckets/").unwrap_or(&message.prefix);
                let (found, next_page_token) = storage.list_buckets(&caller, project, prefix, &ask)?;
                Ok(proto::ListBucketsResponse {
                    buckets: found.iter().map(|bucket| super::proto::bucket(bucket, number)).collect(),
                    next_page_token,
                    unreachable: Vec::new(),
                })
            })
            .await
        }
        "CreateBucket" => {
            unary(request, move |headers, message: proto::CreateBucketRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let wanted = message.bucket.unwrap_or_default();
                let json = bucket_json(&wanted, None)?;
                let made = storage.create_bucket(&caller, &message.bucket_id, &json)?;
                Ok(super::proto::bucket(&made, number))
            })
            .await
        }
        "DeleteBucket" => {
            unary(request, move |headers, message: proto::DeleteBucketRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let condition = Metageneration {
                    matches: message.if_metageneration_match,
                    not_matches: message.if_metageneration_not_match,
                };
                storage.delete_bucket(&caller, bucket_name(&message.name)?, condition)
            })
            .await
        }
        _ => {
            unary(request, move |headers, message: proto::UpdateBucketRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let wanted = message.bucket.unwrap_or_default();
                let mask = message.update_mask.unwrap_or_default().paths;
                let json = bucket_json(&wanted, Some(&mask))?;
                let condition = Metageneration {
                    matches: message.if_metageneration_match,
                    not_matches: message.if_metageneration_not_match,
                };
                let changed = storage.patch_bucket(&caller, bucket_name(&wanted.name)?, &json, condition)?;
                Ok(super::proto::bucket(&changed, number))
            })
            .await
        }
    }
}

async fn policy(storage: Arc<Storage>, method: &str, request: Request<Body>) -> Response {
    match method {
        "GetIamPolicy" => {
            unary(request, |headers, message: iam::GetIamPolicyRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let version = requested_version(&message);
                storage.get_policy(&caller, bucket_name(&message.resource)?, version).map(iam::Policy::from)
            })
            .await
        }
        "SetIamPolicy" => {
            unary(request, |headers, message: iam::SetIamPolicyRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let wanted = message.policy.unwrap_or_default().into();
                storage.set_policy(&caller, bucket_name(&message.resource)?, wanted).map(iam::Policy::from)
            })
            .await
        }
        _ => {
            unary(request, |headers, message: iam::TestIamPermissionsRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let name = bucket_name(&message.resource)?;
                let permissions = storage.test_permissions(&caller, name, &message.permissions)?;
                Ok(iam::TestIamPermissionsResponse { permissions })
            })
            .await
        }
    }
}

async fn objects(storage: Arc<Storage>, method: &str, request: Request<Body>) -> Response {
    match method {
        "GetObject" => {
            unary(request, |headers, message: proto::GetObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let source = Source {
                    bucket: bucket_name(&message.bucket)?.to_owned(),
                    name: message.object,
                    generation: generation(message.generation),
                    preconditions: Preconditions {
                        generation_match: message.if_generation_match,
                        generation_not_match: message.if_generation_not_match,
                        metageneration_match: message.if_metageneration_match,
                        metageneration_not_match: message.if_metageneration_not_match,
                    },
                };
                storage.get(&caller, &source).map(|found| super::proto::object(&found))
            })
            .await
        }
        "ListObjects" => {
            unary(request, |headers, message: proto::ListObjectsRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let query = Query {
                    prefix: message.prefix,
                    delimiter: message.delimiter,
                    include_trailing_delimiter: message.include_trailing_delimiter,
                    start: message.lexicographic_start,
                    end: message.lexicographic_end,
                    versions: message.versions,
                    glob: message.match_glob,
                    page: Ask { size: i64::from(message.page_size), token: message.page_token },
                };
                let listing = storage.list(&caller, bucket_name(&message.parent)?, &query)?;
                Ok(proto::ListObjectsResponse {
                    objects: listing.objects.iter().map(|found| super::proto::object(found)).collect(),
                    prefixes: listing.prefixes,
                    next_page_token: listing.next,
                })
            })
            .await
        }
        "DeleteObject" => {
            unary(request, |headers, message: proto::DeleteObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let source = Source {
                    bucket: bucket_name(&message.bucket)?.to_owned(),
                    name: message.object,
                    generation: generation(message.generation),
                    preconditions: Preconditions {
                        generation_match: message.if_generation_match,
                        generation_not_match: message.if_generation_not_match,
                        metageneration_match: message.if_metageneration_match,
                        metageneration_not_match: message.if_metageneration_not_match,
                    },
                };
                storage.delete(&caller, &source)
            })
            .await
        }
        "UpdateObject" => {
            unary(request, |headers, message: proto::UpdateObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let wanted = message.object.unwrap_or_default();
                let patch = object_patch(&wanted, &message.update_mask.unwrap_or_default().paths)?;
                let source = Source {
                    bucket: bucket_name(&wanted.bucket)?.to_owned(),
                    name: wanted.name,
                    generation: generation(wanted.generation),
                    preconditions: Preconditions {
                        generation_match: message.if_generation_match,
                        generation_not_match: message.if_generation_not_match,
                        metageneration_match: message.if_metageneration_match,
                        metageneration_not_match: message.if_metageneration_not_match,
                    },
                };
                storage.patch(&caller, &source, &patch, false).map(|found| super::proto::object(&found))
            })
            .await
        }
        "ComposeObject" => {
            unary(request, |headers, message: proto::ComposeObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                let wanted = message.destination.unwrap_or_default();
                let bucket = bucket_name(&wanted.bucket)?.to_owned();
                let sources: Vec<Source> = message
                    .source_objects
                    .into_iter()
                    .map(|source| Source {
                        bucket: bucket.clone(),
                        name: source.name,
                        generation: generation(source.generation),
                        preconditions: Preconditions {
                            generation_match: source.object_preconditions.and_then(|it| it.if_generation_match),
                            ..Preconditions::default()
                        },
                    })
                    .collect();
                let to = Destination {
                    bucket,
                    attributes: attributes(&wanted),
                    name: wanted.name,
                    preconditions: Preconditions {
                        generation_match: message.if_generation_match,
                        metageneration_match: message.if_metageneration_match,
                        ..Preconditions::default()
                    },
                    checksums: checksums(message.object_checksums.as_ref()),
                    components: None,
                };
                let object = storage.compose(&caller, &sources, to)?;
                if message.delete_source_objects == Some(true) {
                    for source in &sources {
                        storage.delete(&caller, source)?;
                    }
                }
                Ok(super::proto::object(&object))
            })
            .await
        }
        "RewriteObject" => {
            unary(request, |headers, message: proto::RewriteObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                rewrite(&storage, &caller, message)
            })
            .await
        }
        _ => grpc::unimplemented(method),
    }
}

fn rewrite(
    storage: &Storage,
    caller: &crate::identity::principal::Principal,
    message: proto::RewriteObjectRequest,
) -> Result<proto::RewriteResponse, Error> {
    let source = Source {
        bucket: bucket_name(&message.source_bucket)?.to_owned(),
        name: message.source_object,
        generation: generation(message.source_generation),
        preconditions: Preconditions {
            generation_match: message.if_source_generation_match,
            generation_not_match: message.if_source_generation_not_match,
            metageneration_match: message.if_source_metageneration_match,
            metageneration_not_match: message.if_source_metageneration_not_match,
        },
    };
    let given = message.destination.is_some();
    let to = Destination {
        bucket: bucket_name(&message.destination_bucket)?.to_owned(),
        name: message.destination_name,
        attributes: attributes(&message.destination.unwrap_or_default()),
        preconditions: Preconditions {
            generation_match: message.if_generation_match,
            generation_not_match: message.if_generation_not_match,
            metageneration_match: message.if_metageneration_match,
            metageneration_not_match: message.if_metageneration_not_match,
        },
        checksums: checksums(message.object_checksums.as_ref()),
        components: None,
    };
    let object = storage.copy(caller, &source, to, given)?;
    Ok(proto::RewriteResponse {
        total_bytes_rewritten: object.size(),
        object_size: object.size(),
        done: true,
        rewrite_token: String::new(),
        resource: Some(super::proto::object(&object)),
    })
}
