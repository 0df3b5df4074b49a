//! The OpenAPI document: a contract that changes only when somebody means it, and what the web client was built for.

use std::path::Path;

use crate::support::{Options, Server};

/// Where the web client's copy is.
fn copy_path() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("web-ui/openapi.json")
}

/// The description as it is kept: one member per line, so that a change shows what changed.
fn pretty() -> String {
    let mut text = serde_json::to_string_pretty(&holdfast::api::openapi()).unwrap();
    text.push('\n');
    text
}

#[test]
fn the_contract_changes_only_on_purpose() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!("openapi", pretty()));
}

#[test]
fn the_web_client_has_the_same_contract() {
    if std::env::var_os("UPDATE_OPENAPI").is_some_and(|value| value == "1") {
        std::fs::write(copy_path(), pretty()).unwrap();
    }
    let copy = std::fs::read_to_string(copy_path()).unwrap();
    assert!(copy == pretty(), "web-ui/openapi.json is not what the server does; `make fix` writes it anew");
}

#[tokio::test]
async fn the_server_hands_out_that_document_and_a_page_that_needs_no_internet() {
    let mut server = Server::start(Options::plain()).await;
    let api = server.api();
    let served = api.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), "application/json");
    assert_eq!(served.expect(200), serde_json::to_value(holdfast::api::openapi()).unwrap());
    let page = api.try_get("/api/docs").await.unwrap();
    assert_eq!(page.status, 200, "{page}");
    let text = page.text();
    assert!(page.header("content-type").starts_with("text/html"), "{page}");
    for outside in ["src=\"http", "href=\"http", "@import", "//cdn", "url(http"] {
        assert!(!text.contains(outside), "the page asks for something from outside: {outside}");
    }
    server.stop().await;
}
