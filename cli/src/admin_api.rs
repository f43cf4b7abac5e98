//! The admin API of a broker, from outside: JSON over HTTP/1.1 over TLS.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemill_core::limits;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::contexts::Context;
use crate::exit::Failure;

/// The name that every broker's certificate bears.
const SERVER_NAME: &str = "tidemill";
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: compiling a large component is the longest.
const ANSWER: Duration = Duration::from_secs(180);

/// The admin API of one broker.
pub struct AdminApi {
    address: String,
    tls: Arc<rustls::ClientConfig>,
}

/// An answer, before it is looked at.
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: hyper::HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl AdminApi {
    /// That of a context.
    ///
    /// # Errors
    /// [`Failure::Configuration`] when its certificates cannot be read.
    pub fn new(context: &Context) -> Result<AdminApi, Failure> {
        let tls = tls(context).map_err(Failure::Configuration)?;
        Ok(AdminApi { address: context.admin.clone(), tls: Arc::new(tls) })
    }

    /// Asks for something.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.call(Method::GET, path, Bytes::new(), false).await?)
    }

    /// Asks for something, if it is there.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or another problem than that it is missing.
    pub async fn find<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Failure> {
        let answer = self.call(Method::GET, path, Bytes::new(), false).await?;
        if answer.status == StatusCode::NOT_FOUND { Ok(None) } else { read(answer).map(Some) }
    }

    /// Sends a document and reads the one that comes back.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(document).context("a document is plain data")?;
        read(self.call(Method::POST, path, body.into(), true).await?)
    }

    /// Sends changes of what is in a place, and reads what it is then.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(document).context("a document is plain data")?;
        read(self.call(Method::PATCH, path, body.into(), true).await?)
    }

    /// Puts a document in the place of another, and reads what is there then.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn replace<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, Failure> {
        let body = serde_json::to_vec(document).context("a document is plain data")?;
        read(self.call(Method::PUT, path, body.into(), true).await?)
    }

    /// Removes what is in a place, and reads what is said of it.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.call(Method::DELETE, path, Bytes::new(), false).await?)
    }

    /// Puts bytes in a place.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn put(&self, path: &str, body: Bytes) -> Result<(), Failure> {
        checked(self.call(Method::PUT, path, body, false).await?).map(drop)
    }

    /// Bytes from a place, with their headers.
    ///
    /// # Errors
    /// [`Failure`] when there is no answer, or a problem.
    pub async fn bytes(&self, path: &str) -> Result<Answer, Failure> {
        checked(self.call(Method::GET, path, Bytes::new(), false).await?)
    }

    async fn call(&self, method: Method, path: &str, body: Bytes, is_json: bool) -> Result<Answer, Failure> {
        let unreachable = |error: anyhow::Error| {
            Failure::Unreachable(error.context(format!("the admin API at {}", self.address)))
        };
        let is_asking = method == Method::GET;
        let connecting = async {
            let connection = TcpStream::connect(&self.address).await?;
            let name = ServerName::try_from(SERVER_NAME)?;
            let connection = TlsConnector::from(self.tls.clone()).connect(name, connection).await?;
            Ok(http1::handshake(TokioIo::new(connection)).await?)
        };
        let connected = tokio::time::timeout(CONNECT, connecting).await;
        let (mut sender, connection) =
            connected.map_err(|_| unreachable(anyhow!("no connection")))?.map_err(unreachable)?;
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(HOST, SERVER_NAME);
        if is_json {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::new(body)).context("a path is a path")?;
        let asking = async {
            let response = sender.send_request(request).await?;
            let (head, body) = response.into_parts();
            let limit = limits::COMPONENT_BYTES_MAX.max(2 * limits::ENTRY_BYTES_MAX);
            let body = Limited::new(body, limit).collect().await.map_err(|error| anyhow!(error))?.to_bytes();
            Ok(Answer { status: head.status, headers: head.headers, body })
        };
        // What was to change something may be done: to try again is not for a script to decide.
        let unanswered = |error: anyhow::Error| match is_asking {
            true => unreachable(error),
            false => Failure::Refused(error.context(format!(
                "the admin API at {}: whether it was done is not known; look before you try again",
                self.address
            ))),
        };
        let asked = tokio::time::timeout(ANSWER, asking).await;
        asked.map_err(|_| unanswered(anyhow!("no answer")))?.map_err(unanswered)
    }
}

/// A name as a part of a path: whatever is in it, it names nothing else.
pub fn part(name: &str) -> String {
    use std::fmt::Write as _;
    let mut part = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => part.push(char::from(byte)),
            b'.' if name != "." && name != ".." => part.push('.'),
            // Writing to a string cannot fail.
            byte => drop(write!(part, "%{byte:02X}")),
        }
    }
    part
}

fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, Failure> {
    let answer = checked(answer)?;
    Ok(serde_json::from_slice(&answer.body).context("the broker's answer")?)
}

/// The answer, if it is no problem.
fn checked(answer: Answer) -> Result<Answer, Failure> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    let problem: Value = serde_json::from_slice(&answer.body).unwrap_or(Value::Null);
    let text = match problem["detail"].as_str() {
        Some(detail) => detail.to_owned(),
        None => format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
    };
    let error = anyhow!(text);
    let is_there = answer.status != StatusCode::SERVICE_UNAVAILABLE;
    Err(if is_there { Failure::Refused(error) } else { Failure::Unreachable(error) })
}

fn tls(context: &Context) -> anyhow::Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&context.ca)? {
        roots.add(certificate)?;
    }
    let key =
        PrivateKeyDer::from_pem_file(&context.key).with_context(|| context.key.display().to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&context.certificate)?, key)?)
}

fn certificates(path: &std::path::Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = || path.display().to_string();
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).with_context(shown)?.collect();
    read.with_context(shown)
}
