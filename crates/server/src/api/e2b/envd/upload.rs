//! A file's bytes on their way in: as they are, packed, or in a form with several files.

use std::{
    io::{self, Write},
    path::Path,
};

use axum::{
    body::Body,
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use multer::Multipart;
use rclaude_sandbox::agentd::{Client, WriteOptions};
use serde::Serialize;

use super::{files::failed, guest::Who};
use crate::api::e2b::words;

/// Files of one form at most.
const MAX_FILES: usize = 10_000;
/// How much is unpacked at once: a few bytes may become a thousand times as many.
const UNPACKED_AT_ONCE: usize = 4096;

/// A file that was written.
#[derive(Debug, Serialize)]
pub(super) struct Written {
    path: String,
    name: String,
    r#type: &'static str,
}

/// Writes what a request brings.
pub(super) async fn write(
    client: &Client,
    who: Who,
    path: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Vec<Written>, Response> {
    let bad = |text: &str| words::error(StatusCode::BAD_REQUEST, text);
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let content = body.into_data_stream().map_err(io::Error::other);
    let content = match text(header::CONTENT_ENCODING).unwrap_or("identity") {
        "identity" | "" => content.boxed(),
        "gzip" => unpacked(content).boxed(),
        other => return Err(bad(&format!("content-encoding `{other}`; send gzip or nothing"))),
    };
    let kind = text(header::CONTENT_TYPE).unwrap_or("");
    let Ok(boundary) = multer::parse_boundary(kind) else {
        let path = path.ok_or_else(|| bad("path is missing"))?;
        return Ok(vec![put(client, who, path, content).await?]);
    };
    let mut form = Multipart::new(content, boundary);
    let mut written = Vec::new();
    while let Some(part) = form.next_field().await.map_err(|error| bad(&error.to_string()))? {
        if part.name() != Some("file") {
            continue;
        }
        if written.len() == MAX_FILES {
            return Err(bad(&format!("more than {MAX_FILES} files in one form")));
        }
        // With several files each has its path for a name.
        let path = path.or_else(|| part.file_name()).map(str::to_owned);
        let path = path.ok_or_else(|| bad("a file without a path"))?;
        written.push(put(client, who, &path, part.map_err(io::Error::other)).await?);
    }
    if written.is_empty() {
        return Err(bad("the form has no field `file`"));
    }
    Ok(written)
}

async fn put(
    client: &Client,
    who: Who,
    path: &str,
    content: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<Written, Response> {
    let path = who.path(path);
    let options = WriteOptions { sync: true, ..WriteOptions::default() };
    client.write_stream(&path, content, &options).await.map_err(failed)?;
    Ok(Written { name: name(&path), path: path.to_string_lossy().into_owned(), r#type: "file" })
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// What gzip packed, piece by piece.
fn unpacked(
    content: impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let state = (content, Bytes::new(), Some(MultiGzDecoder::new(Vec::new())));
    stream::try_unfold(state, |(mut content, mut rest, mut decoder)| async move {
        loop {
            let Some(unpacking) = decoder.as_mut() else { return Ok(None) };
            if rest.is_empty() {
                if let Some(more) = content.try_next().await? {
                    rest = more;
                    continue;
                }
                let last = decoder.take().map(MultiGzDecoder::finish).transpose()?;
                let last = Bytes::from(last.unwrap_or_default());
                return Ok(Some((last, (content, rest, decoder))));
            }
            let piece = rest.split_to(rest.len().min(UNPACKED_AT_ONCE));
            unpacking.write_all(&piece)?;
            let ready = std::mem::take(unpacking.get_mut());
            if !ready.is_empty() {
                return Ok(Some((Bytes::from(ready), (content, rest, decoder))));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    async fn through(packed: Vec<u8>, size: usize) -> io::Result<Vec<u8>> {
        let pieces: Vec<_> = packed.chunks(size).map(|it| Ok(Bytes::copy_from_slice(it))).collect();
        let pieces = unpacked(stream::iter(pieces)).try_collect::<Vec<_>>().await?;
        Ok(pieces.concat())
    }

    #[tokio::test]
    async fn what_was_packed_comes_out_as_it_was_however_it_arrives() {
        let plain = b"abc".repeat(10_000);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        for size in [1, 7, packed.len()] {
            assert_eq!(through(packed.clone(), size).await.unwrap(), plain);
        }
        let cut = packed[..packed.len() - 9].to_vec();
        assert!(through(cut, 64).await.is_err(), "cut off");
        assert!(through(b"plain text".to_vec(), 64).await.is_err(), "not packed");
    }
}
