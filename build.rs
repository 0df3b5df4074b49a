//! Tells cargo that the web client is an input: its files have hashed names, so a new build must be embedded anew.

fn main() {
    println!("cargo:rerun-if-changed=web-ui/dist");
}
