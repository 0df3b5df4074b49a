//! The load generator behind holdfast bench: real clients over the network.
