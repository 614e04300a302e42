//! Generates the code of the stream from `proto/pool.proto`, without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/pool.proto"], ["proto"])?;
    println!("cargo::rerun-if-changed=proto/pool.proto");
    tonic_prost_build::configure().build_transport(false).bytes(".").compile_fds(files)?;
    Ok(())
}
