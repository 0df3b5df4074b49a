//! `pair invite` and `pair join`: the blob, the one-time tokens, and both sides of the joining link.
