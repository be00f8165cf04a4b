// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a user can choose about a CUDA device.

use crate::Precision;

/// Settings of a CUDA device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CudaOptions {
    /// How exactly kernels compute.
    pub precision: Precision,
    /// In which form the kernels are loaded.
    pub image: CudaImage,
    /// Whether plans are captured and replayed.
    pub capture: Capture,
    /// Whether recurrent layers make all their steps in one launch.
    pub walks: Walks,
}

/// The form in which kernels are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CudaImage {
    /// The first that the device takes: machine code, PTX, compiled from source. Those that it refuses
    /// are warned about.
    #[default]
    Auto,
    /// The machine code that the program was built with.
    Cubin,
    /// The PTX that the program was built with; the driver compiles it.
    Ptx,
    /// Compiled from source for the device found; kept on disk.
    Nvrtc,
}

/// Whether a recurrent layer makes all its steps in one launch, in which blocks wait for each other. A layer
/// does so only where it fits: no projection, whole blocks of units, and room for all blocks at the same time.
/// Otherwise each step is a launch. Results are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Walks {
    /// On devices whose self-test passed (`kiln doctor --self-test`), with these kernels and this precision.
    #[default]
    Verified,
    /// On any device, the self-test itself among others.
    Always,
    /// Never.
    Never,
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
