//! The web client embedded in the binary: caching, CSP. Must never send a byte that refers outside the origin.
