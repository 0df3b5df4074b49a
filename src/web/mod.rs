//! The web client embedded in the binary: caching, CSP. Must never send a byte that refers outside the origin.
//!
//! Hashed assets are immutable for ever; pages are never cached and carry a fresh CSP nonce each time.

mod api_docs;

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rust_embed::RustEmbed;

pub use api_docs::api_docs;

/// The built client, with a Brotli and a gzip twin of each compressible file.
#[derive(RustEmbed)]
#[folder = "web-ui/dist/"]
#[allow_missing = true]
#[exclude = ".vite/*"]
struct Assets;

/// What stands in the pages where the nonce of the answer goes.
const NONCE_MARK: &str = "__CSP_NONCE__";

/// Serves an asset, or the page of the client, whose own router knows what to show.
/// `nodes` are the addresses of the pair's data nodes: the page may talk to them, and to nobody else.
pub fn serve(method: &Method, path: &str, (headers, nodes): (&HeaderMap, &[String])) -> Response {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let name = path.trim_start_matches('/');
    if name.starts_with("assets/") {
        return asset(name, headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
    }
    let file_like = name.rsplit('/').next().is_some_and(|last| last.contains('.'));
    if file_like && name != "index.html" {
        return asset(name, headers).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
    }
    page("index.html", nodes)
}

/// A file as it is, compressed if the client can take it.
fn asset(name: &str, headers: &HeaderMap) -> Option<Response> {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let takes = |coding: &str| accepted.split(',').any(|part| part.trim().split(';').next() == Some(coding));
    let variants = [("br", ".br"), ("gzip", ".gz")];
    let compressed = variants
        .into_iter()
        .filter(|(coding, _)| takes(coding))
        .find_map(|(coding, suffix)| Assets::get(&format!("{name}{suffix}")).map(|file| (file.data, Some(coding))));
    let (data, coding) = match compressed {
        Some(found) => found,
        None => (Assets::get(name)?.data, None),
    };
    let immutable = name.starts_with("assets/");
    let caching = if immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    let mut response = body(data).into_response();
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(name)));
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(caching));
    out.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
    if let Some(coding) = coding {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(coding));
    }
    Some(response)
}

fn body(data: Cow<'static, [u8]>) -> axum::body::Body {
    match data {
        Cow::Borrowed(bytes) => bytes.into(),
        Cow::Owned(bytes) => bytes.into(),
    }
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "json" | "map" => "application/json",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "txt" => "text/plain; charset=utf-8",
        "webmanifest" => "application/manifest+json",
        _ => "application/octet-stream",
    }
}

/// The sources of one node for the policy: its API and its WebSocket. Nothing for what is not plainly an address: it came
/// from a configuration and goes into a header.
fn sources(node: &str) -> String {
    let node = node.trim_end_matches('/');
    let plain = node.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/.-[]".contains(&byte));
    match node.split_once("://") {
        Some(("https", host)) if plain => format!(" https://{host} wss://{host}"),
        Some(("http", host)) if plain => format!(" http://{host} ws://{host}"),
        _ => String::new(),
    }
}

/// A page with a fresh nonce, and the policy that lets nothing in from outside.
fn page(name: &str, nodes: &[String]) -> Response {
    let Some(file) = Assets::get(name) else {
        let text = "This binary was built without the web client: build it with `make build`.\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    html(&String::from_utf8_lossy(&file.data), nodes)
}

/// An HTML answer: `__CSP_NONCE__` in it becomes the nonce of this answer.
fn html(template: &str, nodes: &[String]) -> Response {
    let mut random = [0; 16];
    if let Err(cause) = getrandom::fill(&mut random) {
        return crate::api::ApiError::internal(cause).into_response();
    }
    let nonce = data_encoding::BASE64URL_NOPAD.encode(&random);
    let pair = if nodes.len() > 1 { nodes } else { &[] };
    let others: String = pair.iter().map(|node| sources(node)).collect();
    let policy = format!(
        "default-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self' data: blob:; connect-src 'self'{others}; \
         font-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    );
    let mut response = template.replace(NONCE_MARK, &nonce).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}
