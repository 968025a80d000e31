//! Compiles the `.proto` files with protox, a compiler in Rust, so that nobody needs `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["lockgate/config/v1/config.proto", "lockgate/usage/v1/usage.proto", "lockgate/quota/v1/quota.proto"];
    for file in files {
        println!("cargo:rerun-if-changed={file}");
    }
    let descriptors = protox::compile(files, ["."])?;
    // Bodies and ids are slices of the receive buffer, never copies.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
