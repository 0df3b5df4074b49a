//! Tells cargo that the web client is an input: its files have hashed names, so a new build must be embedded anew.

#[expect(clippy::print_stdout, reason = "this is how a build script talks to cargo")]
fn main() {
    println!("cargo:rerun-if-changed=web-ui/dist");
}
