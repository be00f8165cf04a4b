// SPDX-License-Identifier: MIT OR Apache-2.0
//! The forms in which kernels are loaded. The simulated driver reads what a real one would be
//! given: it compares entries and parameter sizes with the kernels that it runs.

use std::process::Command;

use kiln::backend::cuda::{
    embedded, embedded_ptx, nvrtc_version, Cuda, CudaImage, CudaOptions, LoadedImage,
};
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
                let refused = is_refusal(&text);
                let missing = format!("cuda:0: this program has no {what}");
                let is_missing = text.starts_with(&missing) && text.contains("nvrtc");
                assert!(is_missing || refused, "{text}");
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
            let text = error.to_string();
            let missing = text.contains("NVRTC (libnvrtc) was not found");
            assert!(missing || is_refusal(&text), "{text}");
        }
    }
}

/// Every kernel loads in every form that this build and this machine have; the simulated driver
/// compares each with the kernel that it runs, and a real one may be too old for some form.
#[test]
fn every_kernel_loads_in_every_form() {
    let _driver = driver();
    let built = embedded();
    if let Some(named) = std::env::var_os("KILN_NVRTC") {
        assert!(nvrtc_version().is_some(), "{named:?} is no NVRTC");
    }
    let forms = [
        (CudaImage::Auto, true),
        (CudaImage::Cubin, !built.cubins.is_empty()),
        (CudaImage::Ptx, built.ptx.is_some()),
        (CudaImage::Nvrtc, nvrtc_version().is_some()),
    ];
    for (image, _) in forms.into_iter().filter(|(_, there)| *there) {
        let gpu = Cuda::new(0, CudaOptions { image, ..CudaOptions::default() });
        match gpu.and_then(|mut gpu| gpu.load_kernels()) {
            Ok(loaded) => assert_eq!(loaded, built.kernels, "{image:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(image != CudaImage::Auto && is_refusal(&text), "{image:?}: {text}");
                skipped(&format!("{image:?} is refused: {text}"));
            }
        }
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

const INVALID_IMAGE: u32 = 200;
const NO_BINARY_FOR_GPU: u32 = 209;

/// A driver that refuses the first forms gets the next: machine code, PTX, NVRTC.
#[test]
fn a_form_that_is_refused_is_followed_by_the_next() {
    let Some(simulator) = simulator() else { return };
    let expected = forward(CudaImage::Auto).expect("an image");
    let built = embedded();
    // Without NVRTC, what it compiled earlier may still be kept.
    let (cubin, ptx, nvrtc) =
        (!built.cubins.is_empty(), built.ptx.is_some(), forward(CudaImage::Nvrtc).is_ok());
    let loads = |kinds: &[ImageKind], there: &[(LoadedImage, bool)]| {
        kinds.iter().for_each(|&kind| simulator.refuse_images(kind, INVALID_IMAGE));
        let (output, warnings) = with_warnings(|| forward(CudaImage::Auto));
        let image = Cuda::new(0, CudaOptions::default()).map(|gpu| gpu.image());
        kinds.iter().for_each(|&kind| simulator.refuse_images(kind, 0));
        match there.iter().find(|(_, there)| *there) {
            Some((next, _)) => {
                assert_eq!(output.expect("a form that loads"), expected);
                assert_eq!(image.ok(), Some(*next));
                assert_eq!(warnings.len(), 1, "{warnings:?}");
                assert!(warnings[0].contains("simulated: loading "), "{warnings:?}");
            }
            None => {
                let text = output.expect_err("nothing loads").to_string();
                assert!(
                    text.contains("simulated: loading ") && text.contains("; nvrtc: "),
                    "{text}"
                );
            }
        }
    };
    let all = [(LoadedImage::Cubin, cubin), (LoadedImage::Ptx, ptx), (LoadedImage::Nvrtc, nvrtc)];
    loads(&[ImageKind::Names], &all);
    // What NVRTC writes is machine code as well.
    loads(&[ImageKind::Names, ImageKind::Binary], &all[1..2]);
}

/// A driver of CUDA 12.4 compiles PTX up to 8.4, which is what the program carries.
#[test]
fn embedded_ptx_is_as_old_as_the_oldest_driver() {
    let Some(simulator) = simulator() else { return };
    if embedded().ptx.is_none() {
        return skipped("built without nvcc, so there is no PTX");
    }
    simulator.set_version(12040, 84);
    forward(CudaImage::Ptx).expect("PTX that the driver compiles");
    simulator.set_version(12030, 83);
    let text = forward(CudaImage::Ptx).expect_err("PTX that is too new").to_string();
    assert!(text.contains("CUDA_ERROR_UNSUPPORTED_PTX_VERSION"), "{text}");
    // The first form fails, the last is refused as well: the error tells of all.
    for kind in [ImageKind::Names, ImageKind::Binary] {
        simulator.refuse_images(kind, NO_BINARY_FOR_GPU);
    }
    let text = forward(CudaImage::Auto).expect_err("no form loads").to_string();
    for part in ["simulated: ", "; cubin: ", "; ptx: ", "; nvrtc: "] {
        assert!(text.contains(part), "{text}");
    }
}

/// `OLDER_PTXAS` names compilers of PTX that are as old as the drivers that must take it.
#[test]
fn older_compilers_take_the_embedded_ptx() {
    let _driver = driver();
    let Ok(compilers) = std::env::var("OLDER_PTXAS") else {
        return skipped("OLDER_PTXAS names no compilers");
    };
    let folder = tempfile::tempdir().expect("a folder");
    for compiler in compilers.split_whitespace() {
        assert!(embedded().ptx.is_some(), "built without nvcc");
        for (name, ptx) in embedded_ptx() {
            let file = folder.path().join(name);
            std::fs::write(&file, ptx).expect("written");
            for architecture in ["-arch=sm_80", "-arch=sm_90"] {
                let mut run = Command::new(compiler);
                run.arg(architecture).arg(&file).arg("-o").arg(folder.path().join("code"));
                let output = run.output().expect("a compiler");
                let told = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{compiler} {architecture} {name}: {told}");
            }
        }
    }
}

/// All networks on a device share its context and what was loaded there, in any precision.
#[test]
fn networks_share_a_device_and_its_kernels() {
    let Some(simulator) = simulator() else { return };
    simulator.clear_counters();
    let device = gpu();
    let run = |device: Device| {
        let mut net = Net::new(device, Seed(1), |p| Linear::new(&p.at("fc"), 8, 8))?;
        net.eval().forward(&numbers(1, [4, 8]))
    };
    let first = run(device.clone()).expect("a network");
    let loaded = simulator.counters();
    for _ in 0..3 {
        assert_eq!(run(device.clone()).expect("a network"), first);
    }
    run(device.clone().with_precision(kiln::Precision::Bf16)).expect("a network");
    assert_eq!(loaded.contexts, 1);
    assert_eq!(simulator.counters().contexts, 1, "one context");
    let more = simulator.counters().modules - loaded.modules;
    assert!(more <= 3, "{more} modules for another precision");
    drop(device);
    assert_eq!(simulator.counters().live_allocations, 0);
    run(gpu()).expect("a network");
    assert_eq!(simulator.counters().contexts, 2, "opened anew when nobody had it open");
}
