//! How are the stubs made? From the descriptors of the contract that generate.sh has written.
use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let descriptors = std::env::var("CONTRACT").unwrap_or("generated/contract.binpb".into());
    println!("cargo:rerun-if-changed={descriptors}");
    println!("cargo:rerun-if-env-changed=CONTRACT");
    let contract = prost_types::FileDescriptorSet::decode(&*std::fs::read(descriptors)?)?;
    tonic_prost_build::configure().build_server(false).compile_fds(contract)?;
    Ok(())
}
