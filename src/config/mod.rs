//! Configuration: flags over HOLDFAST_* over the TOML file over defaults. Unknown fields are refused.
