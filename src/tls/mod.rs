//! The own CA, the node certificate, reload without restart.
