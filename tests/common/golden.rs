// SPDX-License-Identifier: MIT OR Apache-2.0
//! The golden fixtures, as `tests/golden/README.md` describes them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use kiln::Tensor;
use safetensors::{Dtype, SafeTensors};

/// One file: what it is, every option as text, its tensors.
pub(crate) struct Fixture {
    pub(crate) stem: String,
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) tensors: BTreeMap<String, Golden>,
}

/// A tensor of a fixture. Every element type that occurs fits into `f64` exactly.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f64>,
    dtype: Dtype,
}

/// The folder of the fixtures and their manifest.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All fixtures, by name.
pub(crate) fn fixtures() -> Vec<Fixture> {
    let files = std::fs::read_dir(folder().join("data")).expect("tests/golden/data is checked in");
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("readable").path()).collect();
    paths.sort();
    paths.iter().map(|path| Fixture::read(path)).collect()
}

impl Fixture {
    fn read(path: &Path) -> Self {
        let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{stem}: {e}"));
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a safetensors header");
        let options = header.metadata().clone().unwrap_or_default().into_iter().collect();
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let (dtype, shape) = (view.dtype(), view.shape().to_vec());
            (name, Golden { shape, values: decode(dtype, view.data()), dtype })
        });
        Fixture { stem, options, tensors: tensors.collect() }
    }

    pub(crate) fn option(&self, name: &str) -> &str {
        let value = self.options.get(name);
        value.unwrap_or_else(|| panic!("{}: no option {name}", self.stem))
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str) -> T {
        let text = self.option(name);
        text.parse().unwrap_or_else(|_| panic!("{}: {name} = {text}", self.stem))
    }

    pub(crate) fn list<T: FromStr>(&self, name: &str) -> Vec<T> {
        let parse =
            |text: &str| text.parse().unwrap_or_else(|_| panic!("{}: {name}: {text}", self.stem));
        self.option(name).split(',').map(parse).collect()
    }

    pub(crate) fn get(&self, name: &str) -> &Golden {
        let tensor = self.tensors.get(name);
        tensor.unwrap_or_else(|| panic!("{}: no tensor {name}", self.stem))
    }

    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.get(name).tensor()
    }

    /// Tensors whose names begin with `prefix`, by the rest of the name.
    pub(crate) fn below<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a Golden)> {
        self.tensors.iter().filter_map(move |(name, t)| Some((name.strip_prefix(prefix)?, t)))
    }
}

impl Golden {
    /// The tensor as kiln takes it.
    pub(crate) fn tensor(&self) -> Tensor {
        let made = match self.dtype {
            Dtype::I32 => {
                Tensor::labels(&self.shape[..], self.values.iter().map(|&x| x as i32).collect())
            }
            _ => Tensor::new(&self.shape[..], self.values.iter().map(|&x| x as f32).collect()),
        };
        made.expect("as many values as the shape has elements")
    }
}

fn decode(dtype: Dtype, data: &[u8]) -> Vec<f64> {
    fn all<const N: usize>(data: &[u8], number: fn([u8; N]) -> f64) -> Vec<f64> {
        data.chunks_exact(N).map(|c| number(c.try_into().expect("N bytes"))).collect()
    }
    match dtype {
        Dtype::F32 => all(data, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => all(data, f64::from_le_bytes),
        Dtype::I32 => all(data, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::U32 => all(data, |b| f64::from(u32::from_le_bytes(b))),
        Dtype::U8 => all(data, |[b]| f64::from(b)),
        other => panic!("fixtures hold no {other:?}"),
    }
}
