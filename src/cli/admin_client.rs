//! Talks to the running server over its admin socket: HTTP/1.1 on `<data>/run/admin.sock`, which only the server's user can open.
//! Must never open the data directory itself: the server owns it while it runs.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::UnixStream;

use super::CliError;
use crate::limits::{ADMIN_ANSWER_BYTES_MAX, ADMIN_REQUEST_TIMEOUT_SECONDS};
use crate::ops::datadir::admin_socket;

/// Why a request to the running server failed.
#[derive(Debug)]
pub enum AdminError {
    /// No server listens on the socket.
    NotRunning {
        /// The data directory.
        data: PathBuf,
    },
    /// This user may not open the socket.
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// The server refused, and said why.
    Problem(Box<Problem>),
    /// The connection broke, the answer took too long, or it was no answer of ours.
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What happened.
        reason: String,
    },
}

/// An RFC 9457 problem as the server sends it. Unknown members are ignored: a newer server may say more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// The kind of problem in a few words.
    pub title: String,
    /// This problem in a sentence.
    pub detail: String,
    /// What the operator can do.
    pub hint: Option<String>,
    /// The id under which the server's log tells more.
    pub request_id: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = if self.title.is_empty() { "the server refused" } else { &self.title };
        f.write_str(title)?;
        if !self.detail.is_empty() && self.detail != self.title {
            write!(f, ": {}", self.detail)?;
        }
        let code = if self.code.is_empty() { "no code" } else { &self.code };
        write!(f, " [{code}, status {}", self.status)?;
        if let Some(id) = &self.request_id {
            write!(f, ", request {id}")?;
        }
        f.write_str("]")?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "\n  hint: {hint}"))
    }
}

impl fmt::Display for AdminError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminError::NotRunning { data } => {
                let data = data.display();
                write!(f, "no server is running on this data directory: start it with holdfast serve --data {data}")
            }
            AdminError::Forbidden { socket } => {
                write!(f, "this user may not open {}: run the command as the server's user", socket.display())
            }
            AdminError::Problem(problem) => write!(f, "{problem}"),
            AdminError::Broken { socket, reason } => {
                write!(f, "the server on {} did not answer properly: {reason}; see its log", socket.display())
            }
        }
    }
}

impl std::error::Error for AdminError {}

impl From<AdminError> for CliError {
    fn from(error: AdminError) -> Self {
        CliError::failed(error)
    }
}

/// A client of the server that runs on one data directory.
#[derive(Clone, Debug)]
pub struct AdminClient {
    data: PathBuf,
    socket: PathBuf,
}

impl AdminClient {
    /// A client for `data`. Connects when it is asked something.
    pub fn new(data: &Path) -> AdminClient {
        AdminClient { data: data.to_owned(), socket: admin_socket(data) }
    }

    /// Sends one request and gives the JSON of the answer ([`Value::Null`] when there is none).
    ///
    /// `path` is absolute, with its query; `json` becomes the body.
    pub async fn request(&self, method: Method, path: &str, json: Option<&Value>) -> Result<Value, AdminError> {
        let limit = Duration::from_secs(ADMIN_REQUEST_TIMEOUT_SECONDS);
        match tokio::time::timeout(limit, self.exchange(method, path, json)).await {
            Ok(answer) => answer,
            Err(_) => Err(self.broken(format!("no answer within {ADMIN_REQUEST_TIMEOUT_SECONDS} s"))),
        }
    }

    /// The same from a thread without a runtime: what commands call.
    pub fn request_blocking(&self, method: Method, path: &str, json: Option<&Value>) -> Result<Value, AdminError> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| self.broken(error))?
            .block_on(self.request(method, path, json))
    }

    async fn exchange(&self, method: Method, path: &str, json: Option<&Value>) -> Result<Value, AdminError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.connect_error(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.broken(error))?;
        // Ends by itself when the sender is dropped; its error reaches us through the answer.
        tokio::spawn(connection);
        let body = json.map(Value::to_string).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| self.broken(error))?;
        let answer = sender.send_request(request).await.map_err(|error| self.broken(error))?;
        let status = answer.status();
        let bytes = Limited::new(answer.into_body(), ADMIN_ANSWER_BYTES_MAX)
            .collect()
            .await
            .map_err(|error| self.broken(error))?
            .to_bytes();
        self.judge(status, &bytes)
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Result<Value, AdminError> {
        if status.is_success() {
            if body.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_slice(body).map_err(|error| self.broken(format!("not JSON: {error}")));
        }
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => Err(AdminError::Problem(Box::new(Problem { status: status.as_u16(), ..problem }))),
            Err(_) => Err(self.broken(format!("status {status}"))),
        }
    }

    fn connect_error(&self, error: &io::Error) -> AdminError {
        match error.kind() {
            // Refused: the socket file of a server that was killed.
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                AdminError::NotRunning { data: self.data.clone() }
            }
            io::ErrorKind::PermissionDenied => AdminError::Forbidden { socket: self.socket.clone() },
            _ => self.broken(error),
        }
    }

    fn broken(&self, reason: impl fmt::Display) -> AdminError {
        AdminError::Broken { socket: self.socket.clone(), reason: reason.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use axum::Json;
    use axum::http::header;
    use axum::response::IntoResponse;
    use axum::routing::{get, post};
    use serde_json::json;
    use tokio::net::UnixListener;

    use super::*;

    /// A real server on a real socket, as the node will run it.
    async fn serve(data: &Path) -> tokio::task::JoinHandle<io::Result<()>> {
        std::fs::create_dir_all(data.join("run")).unwrap();
        let refuse = || async {
            let body = json!({
                "type": "about:blank", "title": "Name taken", "detail": "there is a user lilei", "code": "name_taken",
                "hint": "choose another name", "request_id": "abc", "new_member": 1
            });
            (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string())
                .into_response()
        };
        let app = axum::Router::new()
            .route("/status", get(|| async { Json(json!({ "role": "active" })) }))
            .route("/echo", post(|body: Json<Value>| async move { body }))
            .route("/nothing", post(|| async { StatusCode::NO_CONTENT }))
            .route("/refuse", get(refuse))
            .route("/crash", get(|| async { (StatusCode::BAD_GATEWAY, "<html>") }))
            .route("/text", get(|| async { "not json" }))
            .route("/huge", get(|| async { "x".repeat(ADMIN_ANSWER_BYTES_MAX + 1) }));
        let listener = UnixListener::bind(admin_socket(data)).unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await })
    }

    #[tokio::test]
    async fn answers_and_problems_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let server = serve(dir.path()).await;
        let client = AdminClient::new(dir.path());
        assert_eq!(client.request(Method::GET, "/status", None).await.unwrap(), json!({ "role": "active" }));
        let body = json!({ "name": "李雷" });
        assert_eq!(client.request(Method::POST, "/echo", Some(&body)).await.unwrap(), body);
        assert_eq!(client.request(Method::POST, "/nothing", None).await.unwrap(), Value::Null);
        let error = client.request(Method::GET, "/refuse", None).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "Name taken: there is a user lilei [name_taken, status 409, request abc]\n  hint: choose another name"
        );
        for (path, reason) in [("/crash", "status 502"), ("/text", "not JSON"), ("/huge", "length limit")] {
            let error = client.request(Method::GET, path, None).await.unwrap_err();
            assert!(matches!(error, AdminError::Broken { .. }) && error.to_string().contains(reason), "{error}");
        }
        server.abort();
    }

    #[tokio::test]
    async fn no_server_is_said_plainly() {
        let dir = tempfile::tempdir().unwrap();
        let client = AdminClient::new(dir.path());
        let expected = format!(
            "no server is running on this data directory: start it with holdfast serve --data {}",
            dir.path().display()
        );
        assert_eq!(client.request(Method::GET, "/status", None).await.unwrap_err().to_string(), expected);
        // The socket file that a killed server leaves.
        std::fs::create_dir_all(dir.path().join("run")).unwrap();
        drop(UnixListener::bind(admin_socket(dir.path())).unwrap());
        assert_eq!(client.request(Method::GET, "/status", None).await.unwrap_err().to_string(), expected);
    }

    #[test]
    fn commands_may_ask_without_a_runtime() {
        let dir = tempfile::tempdir().unwrap();
        let error = AdminClient::new(dir.path()).request_blocking(Method::GET, "/status", None).unwrap_err();
        assert!(matches!(error, AdminError::NotRunning { .. }));
    }
}
