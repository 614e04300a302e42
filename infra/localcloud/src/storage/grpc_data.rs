//! Data over gRPC: reads, ranged reads on an open object, and simple writes.

use std::sync::Arc;

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use googleapis_tonic_google_storage_v2::google::storage::v2 as proto;
use http::Request;
use tonic::{Code, Status, Streaming};

use super::{
    Storage,
    object::Preconditions,
    objects::{Destination, Source},
    proto::{attributes, bucket_name, checksums, generation, object as object_proto},
};
use crate::{
    google::{
        error::{Error, Result},
        grpc::{self, Answers, client_streaming, server_streaming, streaming},
    },
    identity::principal::Principal,
};

/// Most bytes of one message.
const CHUNK: usize = 2 << 20;

/// Answers one call.
pub(super) async fn answer(storage: Arc<Storage>, method: &str, request: Request<Body>) -> Response {
    match method {
        "ReadObject" => {
            server_streaming(request, |headers, message: proto::ReadObjectRequest| async move {
                let caller = storage.identity.caller(&headers)?;
                read(&storage, &caller, message)
            })
            .await
        }
        "BidiReadObject" => {
            streaming(request, |headers, messages: Streaming<proto::BidiReadObjectRequest>| async move {
                let caller = storage.identity.caller(&headers)?;
                bidi_read(&storage, &caller, messages).await
            })
            .await
        }
        "WriteObject" => {
            client_streaming(request, |headers, messages: Streaming<proto::WriteObjectRequest>| async move {
                let caller = storage.identity.caller(&headers)?;
                write(&storage, &caller, messages).await
            })
            .await
        }
        _ => grpc::unimplemented(method),
    }
}

/// Bounds of a read: a negative offset counts from the end, a limit of 0 is none.
fn bounds(offset: i64, limit: i64, size: usize) -> Result<std::ops::Range<usize>> {
    let magnitude = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
    let start = if offset < 0 { size.saturating_sub(magnitude) } else { magnitude };
    if start > size || limit < 0 {
        return Err(Error::new(Code::OutOfRange, "The requested range cannot be satisfied."));
    }
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let end = if limit == 0 { size } else { start.saturating_add(limit).min(size) };
    Ok(start..end)
}

fn chunks(data: &Bytes, range: std::ops::Range<usize>) -> impl Iterator<Item = (usize, Bytes)> + use<> {
    let data = data.clone();
    let count = range.len().div_ceil(CHUNK).max(1);
    (0..count).map(move |index| {
        let start = range.start + index * CHUNK;
        (start, data.slice(start..range.end.min(start + CHUNK)))
    })
}

fn checksummed(content: &Bytes) -> proto::ChecksummedData {
    proto::ChecksummedData { content: content.to_vec(), crc32c: Some(crc32c::crc32c(content)) }
}

fn read(
    storage: &Storage,
    caller: &Principal,
    message: proto::ReadObjectRequest,
) -> Result<Answers<proto::ReadObjectResponse>> {
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
    let object = storage.get(caller, &source)?;
    let range = bounds(message.read_offset, message.read_limit, object.data.len())?;
    let content_range = proto::ContentRange {
        start: i64::try_from(range.start).unwrap_or(0),
        end: i64::try_from(range.end).unwrap_or(0),
        complete_length: object.size(),
    };
    let mut metadata = Some((object_proto(&object), content_range));
    let answers = chunks(&object.data, range).map(move |(_, content)| {
        let (metadata, content_range) = metadata.take().unzip();
        Ok(proto::ReadObjectResponse {
            checksummed_data: Some(checksummed(&content)),
            object_checksums: metadata.as_ref().and_then(|object: &proto::Object| object.checksums.clone()),
            content_range,
            metadata,
        })
    });
    Ok(Box::pin(futures::stream::iter(answers)))
}

async fn bidi_read(
    storage: &Arc<Storage>,
    caller: &Principal,
    mut messages: Streaming<proto::BidiReadObjectRequest>,
) -> Result<Answers<proto::BidiReadObjectResponse>> {
    let first = messages.message().await.map_err(|status| Error::new(status.code(), status.message()))?;
    let first = first.ok_or_else(|| Error::invalid("The stream ended before its first request."))?;
    let spec = first.read_object_spec.ok_or_else(|| Error::invalid("The first request needs read_object_spec."))?;
    let source = Source {
        bucket: bucket_name(&spec.bucket)?.to_owned(),
        name: spec.object,
        generation: generation(spec.generation),
        preconditions: Preconditions {
            generation_match: spec.if_generation_match,
            generation_not_match: spec.if_generation_not_match,
            metageneration_match: spec.if_metageneration_match,
            metageneration_not_match: spec.if_metageneration_not_match,
        },
    };
    let object = storage.get(caller, &source)?;
    let handle = proto::BidiReadHandle { handle: object.generation.to_be_bytes().to_vec() };
    let answers = async_stream::try_stream! {
        yield proto::BidiReadObjectResponse {
            metadata: Some(object_proto(&object)),
            read_handle: Some(handle),
            object_data_ranges: Vec::new(),
        };
        let mut ranges = first.read_ranges;
        loop {
            for range in ranges {
                let wanted = bounds(range.read_offset, range.read_length, object.data.len()).map_err(Status::from)?;
                let end = wanted.end;
                for (start, content) in chunks(&object.data, wanted) {
                    let last = start + content.len() >= end;
                    yield ranged(range.read_id, start, &content, last);
                }
            }
            match messages.message().await? {
                Some(next) => ranges = next.read_ranges,
                None => break,
            }
        }
    };
    Ok(Box::pin(answers))
}

fn ranged(read_id: i64, start: usize, content: &Bytes, last: bool) -> proto::BidiReadObjectResponse {
    proto::BidiReadObjectResponse {
        object_data_ranges: vec![proto::ObjectRangeData {
            checksummed_data: Some(checksummed(content)),
            read_range: Some(proto::ReadRange {
                read_offset: i64::try_from(start).unwrap_or(0),
                read_length: i64::try_from(content.len()).unwrap_or(0),
                read_id,
            }),
            range_end: last,
        }],
        metadata: None,
        read_handle: None,
    }
}

async fn write(
    storage: &Storage,
    caller: &Principal,
    mut messages: Streaming<proto::WriteObjectRequest>,
) -> Result<proto::WriteObjectResponse> {
    let mut to: Option<Destination> = None;
    let mut data = BytesMut::new();
    let mut sums = None;
    while let Some(message) = messages.message().await.map_err(|status| Error::new(status.code(), status.message()))? {
        match message.first_message {
            Some(proto::write_object_request::FirstMessage::WriteObjectSpec(spec)) => {
                let resource = spec.resource.unwrap_or_default();
                to = Some(Destination {
                    bucket: bucket_name(&resource.bucket)?.to_owned(),
                    attributes: attributes(&resource),
                    name: resource.name,
                    preconditions: Preconditions {
                        generation_match: spec.if_generation_match,
                        generation_not_match: spec.if_generation_not_match,
                        metageneration_match: spec.if_metageneration_match,
                        metageneration_not_match: spec.if_metageneration_not_match,
                    },
                    ..Destination::default()
                });
            }
            Some(proto::write_object_request::FirstMessage::UploadId(_)) => {
                return Err(Error::new(
                    Code::Unimplemented,
                    "Resumable writes over gRPC are not served by the laptop cloud.",
                ));
            }
            None => {}
        }
        if let Some(proto::write_object_request::Data::ChecksummedData(piece)) = message.data {
            data.extend_from_slice(&piece.content);
        }
        sums = message.object_checksums.or(sums);
        if message.finish_write {
            break;
        }
    }
    let mut to = to.ok_or_else(|| Error::invalid("The first request needs write_object_spec."))?;
    to.checksums = checksums(sums.as_ref());
    let object = storage.insert(caller, to, data.freeze())?;
    Ok(proto::WriteObjectResponse {
        write_status: Some(proto::write_object_response::WriteStatus::Resource(object_proto(&object))),
    })
}
