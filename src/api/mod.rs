//! The HTTP API: routers, extractors, errors, OpenAPI. Thin: rules live in core.
