// SPDX-License-Identifier: MIT OR Apache-2.0
//! Weights that others have written, and files that are none.

use kiln::checkpoint::{load_weights_with, Strictness, WeightsOptions};
use safetensors::tensor::TensorView;
use safetensors::Dtype;

use super::*;

/// Writes the parameters of a network as another program might: with other names and types.
fn write(path: &Path, from: &mut Net<SimpleNet>, name: impl Fn(&str) -> String, dtype: Dtype) {
    let names: Vec<String> = from.parameter_names().into_iter().map(String::from).collect();
    let mut tensors = Vec::new();
    for known in names {
        let tensor = from.parameter(&known).unwrap();
        let bytes = |value: &f32| match dtype {
            Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        };
        let data: Vec<u8> = tensor.values().unwrap().iter().flat_map(bytes).collect();
        tensors.push((name(&known), tensor.shape().dims().to_vec(), data));
    }
    let view = |(name, dims, data): &(String, Vec<usize>, Vec<u8>)| {
        (
            name.clone(),
            TensorView::new(dtype, dims.clone(), data).unwrap().shape().to_vec(),
            data.clone(),
        )
    };
    let owned: Vec<_> = tensors.iter().map(view).collect();
    let views = owned.iter().map(|(name, dims, data)| {
        (name.as_str(), TensorView::new(dtype, dims.clone(), data).unwrap())
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn sixteen_bit_weights_are_widened() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    for (dtype, round) in [
        (Dtype::F16, (|value| half::f16::from_f32(value).to_f32()) as fn(f32) -> f32),
        (Dtype::BF16, |value| half::bf16::from_f32(value).to_f32()),
    ] {
        let (mut from, mut to) = (net(1), net(2));
        write(&path, &mut from, str::to_string, dtype);
        checkpoint::load_weights(&mut to, &path).unwrap();
        let rounded = |bits: Vec<u32>| -> Vec<u32> {
            bits.into_iter().map(|bits| round(f32::from_bits(bits)).to_bits()).collect()
        };
        let expected: Vec<Vec<u32>> = parameters(&mut from).into_iter().map(rounded).collect();
        assert_eq!(parameters(&mut to), expected, "{dtype:?}");
    }
    let mut to = net(2);
    write(&path, &mut net(1), str::to_string, Dtype::F64);
    let error = checkpoint::load_weights(&mut to, &path).unwrap_err();
    assert_eq!(mismatches(&error)[0], "fc1.weight: expected f32[5, 6], got f64[5, 6]");
    assert_eq!(parameters(&mut to), parameters(&mut net(2)));
}

#[test]
fn prefixes_are_stripped_and_added() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    write(&path, &mut net(1), |name| format!("module.{name}"), Dtype::F32);
    let mut to = net(2);
    let error = checkpoint::load_weights(&mut to, &path).unwrap_err();
    assert_eq!(mismatches(&error).len(), 12, "{error}");
    let strip = WeightsOptions { strip_prefix: "module.".into(), ..WeightsOptions::default() };
    let weights = load_weights_with(&mut to, &path, &strip).unwrap();
    assert_eq!(parameters(&mut to), parameters(&mut net(1)));
    assert_eq!((weights.loaded.len(), weights.missing.len(), weights.left_over.len()), (6, 0, 0));

    let make = |p: &kiln::nn::Scope| SimpleNet::new(&p.at("body"), 6, 5, 3, 0.5);
    let mut inner = Net::new(Device::cpu(), Seed(2), make).unwrap();
    let both = WeightsOptions { add_prefix: "body.".into(), ..strip.clone() };
    load_weights_with(&mut inner, &path, &both).unwrap();
    assert_eq!(parameters(&mut inner), parameters(&mut net(1)));

    let twice = |name: &str| match name {
        "fc1.weight" => name.to_string(),
        _ => "module.fc1.weight".into(),
    };
    let mut views = Vec::new();
    let zeros = vec![0; 5 * 6 * 4];
    for name in ["fc1.weight", "other"] {
        views.push((twice(name), TensorView::new(Dtype::F32, vec![5, 6], &zeros).unwrap()));
    }
    fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    let error = load_weights_with(&mut to, &path, &strip).unwrap_err();
    let both = "fc1.weight: expected one tensor, got fc1.weight and module.fc1.weight";
    assert_eq!(mismatches(&error)[0], both);
}

#[test]
fn lenient_loading_lists_what_it_left_out() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("w.safetensors");
    let renamed = |name: &str| name.replace("fc3", "head");
    write(&path, &mut net(1), renamed, Dtype::F32);
    let lenient = WeightsOptions { strictness: Strictness::Lenient, ..WeightsOptions::default() };
    let mut to = net(2);
    let weights = load_weights_with(&mut to, &path, &lenient).unwrap();
    assert_eq!(weights.loaded, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
    assert_eq!(weights.missing, ["fc3.weight", "fc3.bias"]);
    assert_eq!(weights.left_over, ["head.bias", "head.weight"]);
    let (one, two) = (parameters(&mut net(1)), parameters(&mut net(2)));
    assert_eq!(parameters(&mut to), [&one[..4], &two[4..]].concat());

    // Another shape is no matter of leniency, and neither is a file about something else.
    let make = |p: &kiln::nn::Scope| SimpleNet::new(p, 6, 4, 3, 0.5);
    let mut narrower = Net::new(Device::cpu(), Seed(0), make).unwrap();
    let error = load_weights_with(&mut narrower, &path, &lenient).unwrap_err();
    assert_eq!(mismatches(&error)[0], "fc1.weight: expected f32[4, 6], got f32[5, 6]");
    let make = |p: &kiln::nn::Scope| SimpleNet::new(&p.at("body"), 6, 5, 3, 0.5);
    let mut inner = Net::new(Device::cpu(), Seed(2), make).unwrap();
    let error = load_weights_with(&mut inner, &path, &lenient).unwrap_err();
    assert!(mismatches(&error)[0].contains("such as body.fc1.weight, got fc1.bias"), "{error}");
}

#[test]
fn a_training_file_gives_its_weights_and_its_place() {
    let dir = TempDir::new().unwrap();
    let (mut trainer, progress) = saved(&dir, Adam::new(0.01));
    for file in [TRAINING_FILE, MODEL_FILE] {
        let mut to = net(2);
        checkpoint::load_weights(&mut to, dir.path().join(file)).unwrap();
        assert_eq!(parameters(&mut to), parameters(trainer.net()), "{file}");
        let position = checkpoint::position(dir.path().join(file)).unwrap();
        assert_eq!(position, Some(progress.position), "{file}");
    }
    let bare = dir.path().join("bare.safetensors");
    checkpoint::save_weights(trainer.net(), &bare).unwrap();
    assert_eq!(checkpoint::position(&bare).unwrap(), None);
}

#[test]
fn other_files_are_called_what_they_are() {
    let dir = TempDir::new().unwrap();
    let zip = |entry: &str| {
        let mut bytes = b"PK\x03\x04".to_vec();
        bytes.resize(26, 0);
        bytes.extend((entry.len() as u16).to_le_bytes());
        bytes.extend([0, 0]);
        bytes.extend(entry.as_bytes());
        bytes.resize(400, 1);
        bytes
    };
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("net.pt", zip("archive/data.pkl"), "torch.load('net.pt', map_location='cpu'"),
        ("net.pth", zip("net/data.pkl"), "'net.safetensors')"),
        ("old.bin", b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9".to_vec(), "a file of torch.save"),
        ("a.npz", zip("fc1.npy"), "numpy.savez"),
        ("a.zip", zip("README"), "a zip archive"),
        ("a.npy", b"\x93NUMPY\x01\x00v\x00".to_vec(), "numpy.save"),
        ("a.h5", b"\x89HDF\r\n\x1a\n\0\0".to_vec(), "HDF5"),
        ("a.gguf", b"GGUF\x03\0\0\0\x01".to_vec(), "GGUF"),
        ("a.gz", vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0], "gzip"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        ("page", b"<!DOCTYPE html><html>".to_vec(), "HTML page"),
    ];
    for (name, bytes, words) in cases {
        let output = at(&dir, name, &bytes);
        assert!(output.contains(words), "{name}: {output}");
        assert!(output.contains(&format!("{name}: at byte 0: ")), "{name}: {output}");
    }
}

/// Both forms in which `torch.save` has written, each converted by the line that the error shows.
#[test]
fn the_line_that_converts_files_of_pytorch_does() {
    let Some(python) = python("the_line_that_converts_files_of_pytorch_does") else { return };
    let dir = TempDir::new().unwrap();
    let run = |code: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/checkpoint");
        let mut command = Command::new(&python);
        command.current_dir(&dir).env("PYTHONPATH", folder).args(["-B", "-c", code]);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    run("import torch; from make_fixture import SimpleNet
state = SimpleNet(6, 5, 3).state_dict()
torch.save(state, 'new.pt')
torch.save(state, 'old.pt', _use_new_zipfile_serialization=False)");
    let mut nets = ["new", "old"].map(|name| {
        let mut to = net(1);
        let text = checkpoint::load_weights(&mut to, dir.path().join(format!("{name}.pt")));
        let text = text.unwrap_err().to_string();
        let line = text.split_once("python -c \"").and_then(|(_, line)| line.split_once('"'));
        run(line.unwrap_or_else(|| panic!("no line in {text}")).0);
        let converted = dir.path().join(format!("{name}.safetensors"));
        checkpoint::load_weights(&mut to, converted).unwrap();
        parameters(&mut to)
    });
    assert_ne!(nets[0], parameters(&mut net(1)));
    let [new, old] = &mut nets;
    assert_eq!(new, old);
}

/// What loading a file of these bytes reports, with the directory left out of it.
fn at(dir: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    let text = checkpoint::load_weights(&mut net(1), &path).unwrap_err().to_string();
    text.replace(&format!("{}/", dir.path().display()), "")
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero"), dir.path()] {
        let error = checkpoint::load_weights(&mut net(1), path).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("regular file") || error.contains("a directory"), "{error}");
    }
}
