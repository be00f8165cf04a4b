// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forms in which kernels are loaded. The simulated driver reads what a real one would be
//! given: it compares entries and parameter sizes with the kernels that it runs.

use kiln::backend::cuda::{embedded, nvrtc_version, Cuda, CudaImage, CudaOptions, LoadedImage};
use kiln::nn::{Dropout, Linear, Sequential};
use kiln::{Device, Net, Result, Seed, Tensor};

use crate::common::*;

fn forward(image: CudaImage) -> Result<Tensor> {
    let device = Device::cuda_with(0, CudaOptions { image, ..CudaOptions::default() })?;
    let make = |p: &kiln::nn::Scope| {
        Sequential::new(p).with(|p| Linear::new(p, 8, 8)).with(|p| Dropout::new(p, 0.5))
    };
    Net::new(device, Seed(1), make)?.train().forward(&numbers(1, [4, 8]))
}

/// Whether this program was built with nvcc decides what the result must be.
#[test]
fn images_of_the_build_are_used_or_missed() {
    let _driver = driver();
    let expected = forward(CudaImage::Auto).expect("an image");
    for (image, what) in [(CudaImage::Cubin, "machine code"), (CudaImage::Ptx, "PTX")] {
        match forward(image) {
            Ok(output) => assert_close(what, &output, &expected, 1e-6),
            Err(error) => {
                let text = error.to_string();
                assert!(text.starts_with(&format!("cuda:0: this program has no {what}")), "{text}");
                assert!(text.contains("nvrtc"), "{text}");
            }
        }
    }
}

/// So does whether this machine has NVRTC.
#[test]
fn nvrtc_compiles_what_was_not_built() {
    let _driver = driver();
    let expected = forward(CudaImage::Auto).expect("an image");
    match forward(CudaImage::Nvrtc) {
        Ok(output) => assert_close("nvrtc", &output, &expected, 1e-6),
        Err(error) => {
            assert!(error.to_string().contains("NVRTC (libnvrtc) was not found"), "{error}")
        }
    }
}

/// Every kernel loads in every form that this build and this machine have; the simulated driver
/// compares each with the kernel that it runs.
#[test]
fn every_kernel_loads_in_every_form() {
    let _driver = driver();
    let built = embedded();
    let forms = [
        (CudaImage::Auto, true),
        (CudaImage::Cubin, !built.cubins.is_empty()),
        (CudaImage::Ptx, built.ptx.is_some()),
        (CudaImage::Nvrtc, nvrtc_version().is_some()),
    ];
    for (image, _) in forms.into_iter().filter(|(_, there)| *there) {
        let gpu = Cuda::new(0, CudaOptions { image, ..CudaOptions::default() });
        let loaded = gpu.expect("a device").load_kernels();
        assert_eq!(loaded.unwrap_or_else(|error| panic!("{image:?}: {error}")), built.kernels);
    }
}

#[test]
fn the_image_in_use_is_told() {
    let Some(_simulator) = simulator() else { return };
    let gpu = Cuda::new(0, CudaOptions::default()).expect("the simulated driver has a device");
    assert_eq!(gpu.image(), LoadedImage::Simulated);
    assert!(gpu.info().simulated);
    let text = gpu.info().to_string();
    assert!(text.starts_with("cuda:0: ") && text.ends_with("(simulated)"), "{text}");
}
