//! What a request brings, read: its path, its query, its body. What cannot be read is told as a [`Problem`] that names
//! the field, where axum's own extractors would answer with a line of text.
//!
//! A body may be as large as its kind may be and no larger, and has to come in within a while: whoever begins one and
//! falls silent holds a connection no longer than that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::limits;

use super::problem::Problem;
use crate::broker::Broker;

/// The variables of a path.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let names = match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => params.iter().map(|(name, _)| name.to_owned()).collect(),
            Err(_) => Vec::new(),
        };
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(read)) => Ok(Path(read)),
            Err(rejection) => Err(wrong_path(&rejection, &names)),
        }
    }
}

fn wrong_path(rejection: &PathRejection, names: &[String]) -> Problem {
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::invalid(rejection.body_text());
    };
    let only = || names.first().cloned().unwrap_or_else(|| "path".to_owned());
    let wrong = |value: &str, wanted: &str| format!("{value:?} is no {wanted}");
    let (field, why) = match error.kind() {
        ErrorKind::ParseErrorAtKey { key, value, expected_type } => {
            (key.clone(), wrong(value, expected_type))
        }
        ErrorKind::ParseErrorAtIndex { index, value, expected_type } => {
            (names.get(*index).cloned().unwrap_or_else(only), wrong(value, expected_type))
        }
        ErrorKind::ParseError { value, expected_type } => (only(), wrong(value, expected_type)),
        ErrorKind::InvalidUtf8InPathParam { key } => (key.clone(), "it is not UTF-8".to_owned()),
        ErrorKind::DeserializeError { key, message, .. } => (key.clone(), message.clone()),
        other => (only(), other.to_string()),
    };
    Problem::field(field, why)
}

/// What stands behind the question mark.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
        serde_path_to_error::deserialize(pairs).map(Query).map_err(|error| {
            let why = error.inner().to_string();
            Problem::field(named(&error.path().to_string(), &why, "query"), why)
        })
    }
}

/// A document, as it comes in and goes out.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<Arc<Broker>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, broker: &Arc<Broker>) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            return Err(Problem::media_type());
        }
        let wait = limits::ADMIN_DOCUMENT_WAIT_MAX;
        let body = whole(broker, request.into_body(), limits::ADMIN_DOCUMENT_BYTES_MAX, wait).await?;
        read_json(&body).map(Json)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// Reads a document.
///
/// # Errors
/// A [`Problem`] that names the field that is wrong, by its path.
pub fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Serde takes a list for an object with its fields in order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::field("body", "it is a list, and an object is wanted"));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let why = error.inner().to_string();
        if error.inner().is_data() {
            Problem::field(named(&error.path().to_string(), &why, "body"), why)
        } else {
            Problem::field("body", format!("it is no JSON: {why}"))
        }
    })?;
    reader.end().map_err(|error| Problem::field("body", format!("it is no JSON: {error}")))?;
    Ok(read)
}

/// What is said of bytes as each kind of document that there is: for the crate `hostile`.
pub fn hostile(body: &[u8]) -> Vec<Problem> {
    fn read<T: DeserializeOwned>(body: &[u8], problems: &mut Vec<Problem>) {
        problems.extend(read_json::<T>(body).err());
    }
    let mut problems = Vec::new();
    read::<super::topics::NewTopic>(body, &mut problems);
    read::<super::topics::TrimTo>(body, &mut problems);
    read::<BTreeMap<String, Option<String>>>(body, &mut problems);
    read::<super::plugins::Deploy>(body, &mut problems);
    read::<super::lifecycle::Reset>(body, &mut problems);
    read::<super::log_level::Level>(body, &mut problems);
    read::<crate::letters::Which>(body, &mut problems);
    problems
}

/// A component's bytes.
pub struct Component(pub Bytes);

impl FromRequest<Arc<Broker>> for Component {
    type Rejection = Problem;

    async fn from_request(request: Request, broker: &Arc<Broker>) -> Result<Self, Problem> {
        let (most, wait) = (limits::COMPONENT_BYTES_MAX, limits::ADMIN_COMPONENT_WAIT_MAX);
        whole(broker, request.into_body(), most, wait).await.map(Component)
    }
}

/// A bundle's archive.
pub struct Archive(pub Bytes);

impl FromRequest<Arc<Broker>> for Archive {
    type Rejection = Problem;

    async fn from_request(request: Request, broker: &Arc<Broker>) -> Result<Self, Problem> {
        let (most, wait) = (limits::BUNDLE_BYTES_MAX, limits::ADMIN_COMPONENT_WAIT_MAX);
        whole(broker, request.into_body(), most, wait).await.map(Archive)
    }
}

/// The whole of a body, if it is no larger and comes in within `wait`.
async fn whole(broker: &Broker, body: Body, most: usize, wait: Duration) -> Result<Bytes, Problem> {
    // How long the body is, it may say itself; then no byte of one that is too large is read.
    if axum::body::HttpBody::size_hint(&body).lower() > most as u64 {
        return Err(Problem::too_large("body", most));
    }
    tokio::select! {
        read = read(body, most) => read,
        () = broker.world.clock.sleep(wait) => Err(Problem::too_slow(wait)),
    }
}

/// Reads a body. Of one that turns out too large, some more is read and dropped: who is still sending hears no answer.
async fn read(mut body: Body, most: usize) -> Result<Bytes, Problem> {
    let (mut kept, mut seen) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Problem::field("body", format!("it broke off: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        seen += data.len();
        if seen <= most {
            kept.extend_from_slice(&data);
        } else if seen > most + limits::ADMIN_DROPPED_BYTES_MAX {
            break;
        }
    }
    if seen > most { Err(Problem::too_large("body", most)) } else { Ok(kept.freeze()) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// The field that an error is about: its path, and where the path ends above it, the name that the error has. Of a
/// field that is missing or not known, serde tells the name only in its words.
fn named(path: &str, why: &str, whole: &str) -> String {
    let quoted = ["unknown field `", "missing field `", "duplicate field `"];
    let name = quoted.iter().find_map(|start| why.strip_prefix(start)?.split('`').next());
    match (path, name) {
        ("." | "", None) => whole.to_owned(),
        ("." | "", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => {
            format!("{path}.{name}")
        }
        (path, _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Outer {
        #[allow(dead_code)]
        inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Inner {
        #[allow(dead_code)]
        how_many: u32,
    }

    #[test]
    fn a_field_that_is_wrong_is_named_by_its_path() {
        for (document, field) in [
            (r#"{"inner":[{"how-many":-1}]}"#, "inner[0].how-many"),
            (r#"{"inner":[{"how-many":1},{"how-mny":1}]}"#, "inner[1].how-mny"),
            (r#"{"inner":[{}]}"#, "inner[0].how-many"),
            (r#"{"inner":[],"inner":[]}"#, "inner"),
            (r#"{"outer":[]}"#, "outer"),
            ("{}", "inner"),
            ("7", "body"),
            ("", "body"),
            (r#"{"inner":[]"#, "body"),
            (r#"{"inner":[]} and more"#, "body"),
        ] {
            let problem = read_json::<Outer>(document.as_bytes()).unwrap_err();
            assert_eq!(problem.fields[0].field, field, "{document}: {problem:?}");
            assert!(problem.detail.starts_with(field), "{document}: {problem:?}");
        }
    }
}
