//! The API reference as a page: made from the OpenAPI document, readable without a network and without scripts.

use std::fmt::Write as _;
use std::sync::OnceLock;

use axum::response::Response;
use serde_json::Value;

/// The reference page.
pub async fn api_docs() -> Response {
    static PAGE: OnceLock<String> = OnceLock::new();
    let page = PAGE.get_or_init(|| {
        let document = serde_json::to_value(crate::api::openapi()).unwrap_or_default();
        render(&document)
    });
    super::html(page, &[])
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;\
color-scheme:light dark}code,pre{font-family:ui-monospace,monospace}h3{margin-bottom:.2rem}\
pre{overflow:auto;padding:.6rem;border:1px solid #8886;border-radius:6px}.m{text-transform:uppercase;font-weight:700}";

fn render(document: &Value) -> String {
    let mut out = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Holdfast API</title><style nonce=\"__CSP_NONCE__\">{STYLE}</style>\
         <h1>Holdfast API</h1><p>{}</p><p>The same as data: <a href=\"/api/v1/openapi.json\">openapi.json</a>.</p>",
        escape(document.pointer("/info/description").and_then(Value::as_str).unwrap_or_default())
    );
    for (path, methods) in object(document.get("paths")) {
        for (method, operation) in object(Some(methods)) {
            render_operation(&mut out, (method, path), operation);
        }
    }
    out.push_str("<h2>Shapes</h2>");
    for (name, schema) in object(document.pointer("/components/schemas")) {
        let text = serde_json::to_string_pretty(schema).unwrap_or_default();
        // Writing to a String cannot fail.
        let _ = write!(out, "<h3 id=\"{0}\">{0}</h3><pre>{1}</pre>", escape(name), escape(&text));
    }
    out.push_str("</html>");
    out
}

fn render_operation(out: &mut String, place: (&str, &str), operation: &Value) {
    let (method, path) = place;
    let text = |name| escape(operation.get(name).and_then(Value::as_str).unwrap_or_default());
    let _ = write!(
        out,
        "<h3><code><span class=\"m\">{}</span> {}</code></h3><p>{} {}</p><ul>",
        escape(method),
        escape(path),
        text("summary"),
        text("description")
    );
    for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| escape(parameter.get(name).and_then(Value::as_str).unwrap_or_default());
        let _ = write!(out, "<li>{} <code>{}</code>: {}</li>", field("in"), field("name"), field("description"));
    }
    if let Some(body) = operation.pointer("/requestBody/content/application~1json/schema") {
        let _ = write!(out, "<li>body: {}</li>", shape(body));
    }
    for (status, response) in object(operation.get("responses")) {
        let content = object(response.get("content")).next();
        let body = content.and_then(|(_, content)| content.get("schema")).map(shape).unwrap_or_default();
        let _ = write!(out, "<li>{}: {}</li>", escape(status), body);
    }
    out.push_str("</ul>");
}

fn shape(schema: &Value) -> String {
    match schema.get("$ref").and_then(Value::as_str).and_then(|name| name.rsplit('/').next()) {
        Some(name) => format!("<a href=\"#{0}\">{0}</a>", escape(name)),
        None => format!("<code>{}</code>", escape(&schema.to_string())),
    }
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
