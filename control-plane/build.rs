//! The console is embedded from `web/dist`: a console that was built after the binary must not stay invisible.

fn main() {
    // A path that does not exist would make every build a new one. Where it cannot be made, only that is lost.
    let _ = std::fs::create_dir_all("../web/dist");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../web/dist");
}
