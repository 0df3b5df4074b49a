//! Logging, metrics, disk watch, doctor. Must never take part in a write.
