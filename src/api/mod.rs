//! The HTTP API: routers, extractors, errors, OpenAPI. Thin: rules live in core.

mod error;
mod extract;
mod layers;
mod listener;
mod page;
mod routes;
mod service;
mod witness;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use bytes::Bytes;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

pub use error::{ApiError, Problem};
pub use extract::ClientAddress;
pub use service::{Ended, PairSide, Service, ServiceError, ServiceOptions};
pub use witness::serve_witness;

use crate::auth::passwords::{PasswordPolicy, Passwords};
use crate::auth::rate_limit::LoginLimiter;
use crate::auth::setup_link::SetupLink;
use crate::backup::restore::desk::RestoreDesk;
use crate::backup::service::BackupService;
use crate::core::chat::Reply;
use crate::core::command::{Actor, Command, Envelope};
use crate::core::ids::UserId;
use crate::node::{Answer, Node};
use crate::ops::disk::DiskWatch;
use crate::ops::metrics::Metrics;
use crate::ops::request_id::RequestIds;
use crate::realtime::{Hub, ReadMarks, SessionContext};
use crate::replication::{Face, PairHandle};
use crate::tls::ServerTls;

/// What the handlers work with. Clones share it.
#[derive(Clone)]
pub struct App(Arc<AppParts>);

/// The parts of an [`App`].
pub struct AppParts {
    /// The node.
    pub node: Node,
    /// The hub.
    pub hub: Hub,
    /// The read marks.
    pub read_marks: ReadMarks,
    /// The password hasher.
    pub passwords: Passwords,
    /// What a new password must be like.
    pub password_policy: PasswordPolicy,
    /// The login rate limits.
    pub limiter: LoginLimiter,
    /// The set-up link.
    pub setup: SetupLink,
    /// The certificate; none when TLS is somebody else's affair.
    pub tls: Option<ServerTls>,
    /// The address that links begin with.
    pub public_url: String,
    /// What clients are told of the pair.
    pub face: Face,
    /// The pair.
    pub pair: PairHandle,
    /// The backups.
    pub backups: BackupService,
    /// The disk watch.
    pub disk: Arc<DiskWatch>,
    /// The metrics.
    pub metrics: Metrics,
    /// When the process started.
    pub started: Instant,
    /// Names requests.
    pub request_ids: RequestIds,
    /// What an operator should know, shown on the status page.
    pub notices: Arc<parking_lot::Mutex<Vec<String>>>,
    /// Texts of messages that are being put back from a backup.
    pub restores: RestoreDesk,
    /// The cluster's id.
    pub cluster: [u8; 16],
    /// Where backups are opened for that.
    pub scratch: std::path::PathBuf,
    /// Set while the server shuts down.
    pub stopping: tokio_util::sync::CancellationToken,
}

impl std::ops::Deref for App {
    type Target = AppParts;
    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl App {
    /// An application from its parts.
    #[must_use]
    pub fn new(parts: AppParts) -> Self {
        Self(Arc::new(parts))
    }

    /// Carries out a command of an administrative kind, with session and address for the audit trail.
    pub(crate) async fn act(&self, actor: Actor, command: Command) -> Result<Reply, ApiError> {
        let Answer { outcome, .. } =
            self.node.propose(&Envelope { actor: Some(actor), command: Some(command) }).await?;
        Ok(outcome?)
    }

    /// Carries out a command of the kind that happens all day, under the user's name only.
    pub(crate) async fn act_as(&self, user: UserId, command: Command) -> Result<Reply, ApiError> {
        self.act(Actor::user_only(user), command).await
    }

    /// What a WebSocket session works with.
    #[must_use]
    pub fn session_context(&self) -> SessionContext {
        SessionContext {
            node: self.node.clone(),
            hub: self.hub.clone(),
            read_marks: self.read_marks.clone(),
            face: self.face.clone(),
        }
    }
}

/// A reply of another kind than the rule gives: a defect, not an answer.
pub(crate) fn unexpected<T>(reply: &Reply) -> Result<T, ApiError> {
    Err(ApiError::internal(format!("unexpected reply {reply:?}")))
}

/// Takes the expected kind out of a reply.
macro_rules! expect_reply {
    ($reply:expr, $pattern:pat => $value:expr) => {
        match $reply {
            $pattern => Ok($value),
            other => crate::api::unexpected(&other),
        }
    };
}
pub(crate) use expect_reply;

/// The 16 bytes of a client's own id for a message.
///
/// # Errors
/// `invalid_client_id` unless it is a UUID other than nil.
pub fn client_id(text: &str) -> Result<Bytes, ApiError> {
    match uuid::Uuid::try_parse(text) {
        Ok(id) if !id.is_nil() => Ok(Bytes::copy_from_slice(id.as_bytes())),
        _ => Err(ApiError::new(
            axum::http::StatusCode::UNPROCESSABLE_ENTITY,
            "invalid_client_id",
            "client_id must be a UUID of your own making.",
        )
        .with_field("client_id")),
    }
}

/// The API's description, from its handlers.
#[must_use]
pub fn openapi() -> utoipa::openapi::OpenApi {
    described().1
}

fn described() -> (Router<App>, utoipa::openapi::OpenApi) {
    let (router, mut api) = OpenApiRouter::new().nest("/api/v1", routes::all()).split_for_parts();
    api.info = utoipa::openapi::InfoBuilder::new()
        .title("Holdfast")
        .version("v1")
        .description(Some(
            "Ids are strings of decimal digits. Times are Unix milliseconds. Errors are RFC 9457 problem+json with a \
             stable code. Unknown fields are refused. The WebSocket is described in docs/API.md.",
        ))
        .license(Some(utoipa::openapi::License::new("Apache-2.0")))
        .build();
    for (path, item) in &mut api.paths.paths {
        name_operations(path, item);
    }
    let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = api.components.get_or_insert_default();
    components.add_security_scheme("bearer", SecurityScheme::Http(scheme));
    (router, api)
}

/// Gives each operation an id of its own, from its method and path: handlers of different records share names.
fn name_operations(path: &str, item: &mut utoipa::openapi::PathItem) {
    let words = path.trim_start_matches("/api/v1/").replace(['{', '}'], "").replace(['/', '.'], "_");
    let operations = [
        ("get", &mut item.get),
        ("post", &mut item.post),
        ("put", &mut item.put),
        ("patch", &mut item.patch),
        ("delete", &mut item.delete),
    ];
    for (method, operation) in operations {
        if let Some(operation) = operation {
            operation.operation_id = Some(format!("{method}_{words}"));
        }
    }
}

/// The whole service: API, health, metrics and the web client.
pub fn router(app: App) -> Router {
    let (api, description) = described();
    let document: Bytes = serde_json::to_vec(&description).unwrap_or_default().into();
    let own = api
        .merge(routes::plain(document))
        .method_not_allowed_fallback(routes::method_not_allowed)
        .fallback(routes::fallback);
    layers::around(own, &app).with_state(app)
}

/// The service behind the local admin socket.
pub fn admin_router(app: App) -> Router {
    layers::around(routes::operator().fallback(routes::no_such_path), &app).with_state(app)
}
