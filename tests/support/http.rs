//! An HTTP client with nothing in between: one connection per request, the request as given, the answer as it came.

use std::fmt;

use bytes::Bytes;
use holdfast::bench::client::Endpoint;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, IF_MATCH};
use hyper::{HeaderMap, Method, Request};
use serde_json::Value;

use super::wait::within;

/// A request to make.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The method.
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) path: String,
    /// Headers beside host and authorisation.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Bytes,
}

impl Call {
    /// A request without a body.
    pub(crate) fn new(method: &str, path: &str) -> Self {
        let method = method.to_uppercase().parse().unwrap();
        Self { method, path: path.to_owned(), headers: Vec::new(), body: Bytes::new() }
    }

    /// The same with a JSON body.
    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw("application/json", body.to_string())
    }

    /// The same with any body.
    pub(crate) fn raw(mut self, content_type: &str, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self.header(CONTENT_TYPE.as_str(), content_type)
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same, based on a version.
    pub(crate) fn if_match(self, version: impl fmt::Display) -> Self {
        self.header(IF_MATCH.as_str(), &format!("\"{version}\""))
    }
}

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What was asked, for messages.
    pub(crate) request: String,
    /// The status.
    pub(crate) status: u16,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {} {}", self.request, self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Answer {
    /// A header's text; empty if absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// The JSON body.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{self}: {error}"))
    }

    /// The status is this one; gives the JSON body, or null when there is none.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self}");
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// It is a problem in the promised form, with this status and code; gives it.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        let problem = self.problem();
        assert_eq!((self.status, problem["code"].as_str().unwrap()), (status, code), "{self}");
        problem
    }

    /// It is a problem in the promised form; gives it.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self}");
        let problem = self.json();
        assert_eq!(problem["type"], "about:blank", "{self}");
        assert_eq!(problem["status"], self.status, "{self}");
        for member in ["title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {self}");
        }
        let code = problem["code"].as_str().unwrap();
        assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "code in {self}");
        let id = self.header("x-request-id");
        assert!(!id.is_empty(), "{self}");
        assert_eq!(problem["request_id"], id, "{self}");
        let retry = problem["retry_after_seconds"].as_u64().map(|seconds| seconds.to_string()).unwrap_or_default();
        assert_eq!(self.header("retry-after"), retry, "{self}");
        problem
    }
}

/// A client of the API, signed in or not. Clones are cheap.
#[derive(Clone)]
pub(crate) struct Api {
    endpoint: Endpoint,
    token: Option<String>,
}

impl Api {
    /// One that is not signed in.
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, token: None }
    }

    /// The same with a token.
    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { endpoint: self.endpoint.clone(), token: Some(token.to_owned()) }
    }

    /// The same without one.
    pub(crate) fn anonymous(&self) -> Self {
        Self::new(self.endpoint.clone())
    }

    /// Where the server is.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The token. Panics when there is none.
    pub(crate) fn token(&self) -> &str {
        self.token.as_deref().expect("a signed-in client")
    }

    /// Makes the request. Panics when no answer comes.
    pub(crate) async fn send(&self, call: Call) -> Answer {
        let what = format!("{} {}", call.method, call.path);
        match within(&what, self.try_send(call)).await {
            Ok(answer) => answer,
            Err(error) => panic!("{what}: {error}"),
        }
    }

    /// Makes the request, waiting as long as it takes.
    pub(crate) async fn try_send(&self, call: Call) -> Result<Answer, String> {
        let text = |error: &dyn fmt::Display| error.to_string();
        let request = format!("{} {}", call.method, call.path);
        let stream = self.endpoint.connect(None).await.map_err(|error| text(&error))?;
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|error| text(&error))?;
        let driver = tokio::spawn(connection);
        let mut builder =
            Request::builder().method(call.method).uri(&call.path).header(HOST, self.endpoint.authority());
        if let Some(token) = &self.token {
            builder = builder.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        for (name, value) in &call.headers {
            builder = builder.header(name, value);
        }
        let message = builder.body(Full::new(call.body)).map_err(|error| text(&error))?;
        let answer = sender.send_request(message).await.map_err(|error| text(&error))?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| text(&error))?.to_bytes();
        drop(sender);
        driver.abort();
        Ok(Answer { request, status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// GET, without panicking when nobody answers.
    pub(crate) async fn try_get(&self, path: &str) -> Result<Answer, String> {
        self.try_send(Call::new("GET", path)).await
    }

    /// GET below `/api/v1`.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Call::new("GET", &full(path))).await
    }

    /// POST below `/api/v1`.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(Call::new("POST", &full(path)).json(&body)).await
    }

    /// PUT below `/api/v1`.
    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(Call::new("PUT", &full(path)).json(&body)).await
    }

    /// PATCH below `/api/v1`, based on a version.
    pub(crate) async fn patch(&self, path: &str, version: impl fmt::Display, body: Value) -> Answer {
        self.send(Call::new("PATCH", &full(path)).json(&body).if_match(version)).await
    }

    /// DELETE below `/api/v1`.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(Call::new("DELETE", &full(path))).await
    }

    /// DELETE below `/api/v1`, based on a version.
    pub(crate) async fn delete_version(&self, path: &str, version: impl fmt::Display) -> Answer {
        self.send(Call::new("DELETE", &full(path)).if_match(version)).await
    }
}

/// A path below `/api/v1`.
fn full(path: &str) -> String {
    format!("/api/v1{path}")
}
