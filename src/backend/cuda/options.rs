// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user can choose about a CUDA device.

/// Settings of a CUDA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CudaOptions {
    /// How matrix products compute.
    pub precision: Precision,
    /// In which form the kernels are loaded.
    pub image: CudaImage,
    /// Whether plans are captured and replayed.
    pub capture: Capture,
}

/// How matrix products compute. Sums, parameters and everything else are `f32`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// In full `f32`, without tensor cores, as PyTorch does by default.
    #[default]
    F32,
    /// On tensor cores, the factors rounded to 10 bits of mantissa
    /// (`torch.set_float32_matmul_precision("high")`).
    Tf32,
}

/// The form in which kernels are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CudaImage {
    /// Machine code if the program has it for the device, else PTX, else compiled from source.
    #[default]
    Auto,
    /// The machine code that the program was built with.
    Cubin,
    /// The PTX that the program was built with; the driver compiles it.
    Ptx,
    /// Compiled from source for the device found; kept on disk.
    Nvrtc,
}

/// Whether plans are captured as CUDA graphs and replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Capture {
    /// From their second run on.
    #[default]
    On,
    /// Every run issues its kernels one by one.
    Off,
}
