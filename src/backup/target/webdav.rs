//! A folder on a WebDAV server. opendal's service lists, reads and moves; uploads are ours, as its own would hold a whole file
//! in memory. A file grows under `.unfinished/` and is moved to its name when its length is right.
//!
//! Must never `PUT` to a file's own name: a broken upload would stand there in part.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io;

use bytes::Bytes;
use futures_util::stream::poll_fn;
use http_body_util::StreamBody;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Frame;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use opendal::{ErrorKind, HttpBody, Operator, services};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::fault::{Fault, Patience};
use super::http::{Dialect, HttpClient, MOVED_BYTES};
use super::source::Pieces;
use super::{TargetError, UNFINISHED, own_runtime, s3, unfinished_name};
use crate::limits::{BACKUP_PARTS_IN_FLIGHT, BACKUP_RETRY_FIRST_MS};

/// Where a folder on a WebDAV server is, and who we are there.
#[derive(Clone, Default)]
pub struct WebdavSettings {
    /// The folder's URL, `https://` or `http://`. The folder is made if its parent is there.
    pub url: String,
    /// The user; empty: nobody.
    pub user: String,
    /// The password.
    pub password: String,
    /// Certificates (PEM) of an authority that is trusted for this server beside those that the machine trusts; may be empty.
    pub ca_pem: String,
    /// How long it is waited for.
    pub patience: Patience,
}

impl fmt::Debug for WebdavSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebdavSettings({})", self.url)
    }
}

/// The folder: opendal's view of it, and the way for uploads.
pub(super) struct Webdav {
    pub(super) operator: Operator,
    client: HttpClient,
    url: String,
    authorization: Option<HeaderValue>,
    patience: Patience,
    runtime: Handle,
    /// Folders that were there since we began.
    known: Mutex<HashSet<String>>,
}

impl Webdav {
    /// The folder, ready to be asked. Nothing is sent yet.
    pub(super) fn new(settings: &WebdavSettings) -> Result<Self, TargetError> {
        let url = settings.url.trim_end_matches('/').to_owned();
        let client = HttpClient::new(&url, &settings.ca_pem, Dialect::Webdav, settings.patience)?;
        let builder = services::Webdav::default().endpoint(&url).username(&settings.user).password(&settings.password);
        let operator = s3::remote(builder, client.clone(), settings.patience)?;
        let authorization = match settings.user.as_str() {
            "" => None,
            user => Some(basic(user, &settings.password)?),
        };
        let (patience, runtime, known) = (settings.patience, own_runtime(), Mutex::default());
        Ok(Self { operator, client, url, authorization, patience, runtime, known })
    }

    /// Stores all that `source` gives under `path`.
    pub(super) fn put(&self, path: &str, source: &mut Pieces<'_>) -> Result<u64, TargetError> {
        let unfinished = format!("{UNFINISHED}/{}", unfinished_name());
        let stored = self.upload(&unfinished, path, source);
        if stored.is_err() {
            // What cannot be removed now stays under a name that nobody reads.
            let _ = self.runtime.block_on(self.operator.delete(&unfinished));
        }
        stored
    }

    fn upload(&self, unfinished: &str, path: &str, source: &mut Pieces<'_>) -> Result<u64, TargetError> {
        let failed = |e: &opendal::Error| TargetError::from_opendal("write", path, e);
        let first = source.next()?;
        self.runtime.block_on(self.have_folder(UNFINISHED)).map_err(|e| failed(&e))?;
        let total = if source.is_at_end() {
            let length = first.len() as u64;
            self.runtime
                .block_on(self.put_small(unfinished, first))
                .map_err(|fault| fault.into_target("write", path))?;
            length
        } else {
            self.put_large(unfinished, first, source).map_err(|e| e.of("write", path))?
        };
        self.runtime.block_on(async {
            let found = self.operator.stat(unfinished).await.map_err(|e| failed(&e))?.content_length();
            if found != total {
                let cause = format!("{found} of {total} bytes arrived");
                return Err(TargetError::Unreachable { op: "write", path: path.to_owned(), cause });
            }
            self.give_name(unfinished, path, total).await.map_err(|e| failed(&e))
        })?;
        Ok(total)
    }

    async fn give_name(&self, unfinished: &str, path: &str, length: u64) -> opendal::Result<()> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.have_folder(folder).await?;
        }
        let Err(error) = self.operator.rename(unfinished, path).await else { return Ok(()) };
        // It had its name already, but the answer was lost on the way.
        let found = self.operator.stat(path).await;
        if error.kind() == ErrorKind::NotFound && found.is_ok_and(|found| found.content_length() == length) {
            return Ok(());
        }
        Err(error)
    }

    async fn have_folder(&self, folder: &str) -> opendal::Result<()> {
        if self.known.lock().contains(folder) {
            return Ok(());
        }
        let path = format!("{folder}/");
        match self.operator.create_dir(&path).await {
            // The target's own folder is not there yet.
            Err(error) if matches!(Fault::within(&error), Some(Fault::Refused { status: 409, .. })) => {
                self.make_own_folder().await.map_err(Fault::into_opendal)?;
                self.operator.create_dir(&path).await?;
            }
            other => other?,
        }
        self.known.lock().insert(folder.to_owned());
        Ok(())
    }

    /// Makes the folder of the target, below one that is there.
    async fn make_own_folder(&self) -> Result<(), Fault> {
        let mut request = self.request("", VecDeque::new());
        *request.method_mut() = Method::from_bytes(b"MKCOL").unwrap_or_default();
        let response = self.client.exchange(request).await?;
        match self.accepted(response).await {
            // Somebody else made it meanwhile.
            Err(Fault::Refused { status: 405, .. }) => Ok(()),
            other => other,
        }
    }

    /// A request that stores something under a name, or with the name empty one about the target's folder.
    fn request<B>(&self, unfinished: &str, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.method_mut() = Method::PUT;
        // Both parts were read as a URL, or made by us.
        *request.uri_mut() = format!("{}/{unfinished}", self.url).parse().unwrap_or_default();
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        request
    }

    /// A file in one piece, which is sent again when it failed on the way.
    async fn put_small(&self, unfinished: &str, piece: Bytes) -> Result<(), Fault> {
        let mut pause = BACKUP_RETRY_FIRST_MS;
        for tried in 0.. {
            let pieces: VecDeque<Bytes> = if piece.is_empty() { VecDeque::new() } else { [piece.clone()].into() };
            let answer = self.client.exchange(self.request(unfinished, pieces)).await;
            let answer = match answer {
                Ok(response) => self.accepted(response).await,
                Err(fault) => Err(fault),
            };
            let Err(fault) = answer else { return Ok(()) };
            let passing = match &fault {
                Fault::Refused { status, .. } => matches!(status, 423 | 429 | 500 | 502..=504),
                other => other.is_passing(),
            };
            if !passing || tried >= self.patience.retries {
                return Err(fault);
            }
            tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
            pause *= 2;
        }
        Ok(())
    }

    async fn accepted(&self, response: Response<hyper::body::Incoming>) -> Result<(), Fault> {
        let judged: Result<Response<HttpBody>, Fault> = self.client.judge(false, response).await;
        if matches!(judged, Err(Fault::Refused { status: 409, .. })) {
            // Somebody removed our folder: the next file makes it again.
            self.known.lock().clear();
        }
        let answer = judged?;
        let status = answer.status();
        if matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::NO_CONTENT) {
            // Read to its end, so that the connection can be used again.
            let _ = answer.into_body().to_buffer().await;
            return Ok(());
        }
        if status == StatusCode::NOT_FOUND {
            self.known.lock().clear();
        }
        let said = status.canonical_reason().unwrap_or_default().to_owned();
        Err(Fault::Refused { place: self.client.place(), status: status.as_u16(), code: String::new(), said })
    }

    fn silent(&self) -> Fault {
        Fault::Silent { place: self.client.place(), seconds: self.patience.timeout.as_secs() }
    }

    /// Hands a piece to the connection, little by little: a slow link is not a silent one. Whether it is still wanted.
    async fn hand_over(
        &self,
        pieces: &mpsc::Sender<io::Result<Frame<Bytes>>>,
        mut piece: Bytes,
    ) -> Result<bool, Fault> {
        while !piece.is_empty() {
            let little = piece.split_to(piece.len().min(MOVED_BYTES));
            match timeout(self.patience.timeout, pieces.send(Ok(Frame::data(little)))).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Ok(false),
                Err(_late) => return Err(self.silent()),
            }
        }
        Ok(true)
    }

    /// A file of many pieces, as one request without a length: the source cannot be read twice, so that it is not tried again.
    fn put_large(&self, unfinished: &str, first: Bytes, source: &mut Pieces<'_>) -> Result<u64, Broken> {
        let (pieces, mut arriving) = mpsc::channel::<io::Result<Frame<Bytes>>>(BACKUP_PARTS_IN_FLIGHT);
        let body = UnsyncBoxBody::new(StreamBody::new(poll_fn(move |context| arriving.poll_recv(context))));
        let (client, request) = (self.client.clone(), self.request(unfinished, body));
        let answer = self.runtime.spawn(async move { client.send(request).await });
        let (mut total, mut piece) = (0, first);
        let sent = loop {
            if piece.is_empty() {
                break Ok(total);
            }
            total += piece.len() as u64;
            match self.runtime.block_on(self.hand_over(&pieces, piece)) {
                Ok(true) => {}
                // It answered before the end, or the connection broke: the answer tells.
                Ok(false) => break Ok(total),
                Err(late) => break Err(Broken::Fault(late)),
            }
            match source.next() {
                Ok(next) => piece = next,
                Err(error) => break Err(Broken::Target(error)),
            }
        };
        let Ok(total) = sent else {
            // An error in the body ends the connection: the server sees that the file is not whole.
            let given_up = pieces.send(Err(io::Error::other("given up")));
            let _ = self.runtime.block_on(async { timeout(self.patience.timeout, given_up).await });
            answer.abort();
            return sent;
        };
        drop(pieces);
        let waited = self.runtime.block_on(async { timeout(self.patience.timeout, answer).await });
        let response = match waited {
            Ok(Ok(answer)) => answer.map_err(Broken::Fault)?,
            Ok(Err(ended)) => {
                let cause = ended.to_string();
                return Err(Broken::Fault(Fault::Broken { place: self.client.place(), cause }));
            }
            Err(_late) => return Err(Broken::Fault(self.silent())),
        };
        self.runtime.block_on(self.accepted(response)).map_err(Broken::Fault)?;
        Ok(total)
    }
}

/// What ended an upload.
enum Broken {
    Fault(Fault),
    Target(TargetError),
}

impl Broken {
    fn of(self, op: &'static str, path: &str) -> TargetError {
        match self {
            Self::Fault(fault) => fault.into_target(op, path),
            Self::Target(error) => error,
        }
    }
}

/// `Authorization` of a user with a password.
fn basic(user: &str, password: &str) -> Result<HeaderValue, TargetError> {
    let encoded = data_encoding::BASE64.encode(format!("{user}:{password}").as_bytes());
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}"))
        .map_err(|_| TargetError::BadSettings("user and password cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Webdav {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webdav({})", self.url)
    }
}
