fn main() { let d = burn::tensor::Device::cuda(0usize); println!("{d:?}"); }
