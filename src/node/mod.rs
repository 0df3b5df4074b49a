//! One running node: the write pipeline, its role, the event bus. Only this folder appends to the log.
