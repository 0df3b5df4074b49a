//! Attachments as a content-addressed store. A blob that does not match its name is never served.
