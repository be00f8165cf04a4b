// SPDX-License-Identifier: MIT OR Apache-2.0
//! Finds CUDA's compiler and runs it.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::Mutex;
use std::thread;

use super::resources::{self, Resources};
use crate::Result;

/// The compiler and the disassembler beside it.
pub(crate) struct Toolchain {
    nvcc: PathBuf,
}

/// What one source became.
pub(super) struct Built {
    /// What kernels take of a multiprocessor, by name.
    pub(super) resources: BTreeMap<String, Resources>,
    /// What `nvdisasm` printed.
    pub(super) assembly: String,
}

impl Toolchain {
    /// Looks in `NVCC`, `CUDA_HOME`, `CUDA_PATH`, `PATH` and what `scripts/cuda-toolchain.sh` installed, in this order.
    pub(crate) fn find() -> Result<Self> {
        let named = env::var_os("NVCC").map(PathBuf::from);
        let file = format!("nvcc{}", env::consts::EXE_SUFFIX);
        let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(env::var_os);
        let in_homes = homes.map(|home| Path::new(&home).join("bin").join(&file));
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = env::split_paths(&path).map(|folder| folder.join(&file));
        let mut candidates = named.into_iter().chain(in_homes).chain(on_path).chain(installed());
        let nvcc = candidates.find(|nvcc| nvcc.is_file());
        let nvcc = nvcc.ok_or(
            "no nvcc in NVCC, CUDA_HOME, CUDA_PATH, PATH or target/cuda; run scripts/cuda-toolchain.sh",
        )?;
        // What lies beside it is also run in another folder.
        Ok(Toolchain { nvcc: std::path::absolute(nvcc)? })
    }

    /// The compilers that `OLDER_NVCC` names, separated by spaces.
    pub(super) fn older() -> Vec<Self> {
        let named = env::var("OLDER_NVCC").unwrap_or_default();
        named.split_whitespace().map(|nvcc| Toolchain { nvcc: nvcc.into() }).collect()
    }

    /// What it is called.
    pub(super) fn name(&self) -> String {
        self.nvcc.display().to_string()
    }

    /// What kernels take of a multiprocessor, by name.
    pub(super) fn resources(
        &self,
        kernels: &Path,
        sources: &[PathBuf],
        arch: &str,
    ) -> Result<BTreeMap<String, Resources>> {
        let logs = on_all(sources, |source| Ok(self.cubin(kernels, source, arch)?.1))?;
        Ok(logs.iter().flat_map(|log| resources::compiled(log)).collect())
    }

    /// The compiler.
    #[cfg(unix)]
    pub(crate) fn nvcc(&self) -> &Path {
        &self.nvcc
    }

    /// Compiles all sources; the results are in the order of the sources.
    pub(super) fn compile_all(
        &self,
        kernels: &Path,
        sources: &[PathBuf],
        arch: &str,
    ) -> Result<Vec<Built>> {
        on_all(sources, |source| {
            let (cubin, log) = self.cubin(kernels, source, arch)?;
            let resources = resources::compiled(&log);
            Ok(Built { resources, assembly: self.disassembled(&cubin)? })
        })
    }

    /// The machine code of an architecture that this program was built with.
    pub(super) fn carried(&self, arch: &str) -> Result<Vec<Built>> {
        let sources: Vec<_> = kiln::backend::cuda::embedded_cubins().collect();
        on_all(&sources, |(name, code)| {
            let folder = folder()?;
            let file = folder.join(format!("{name}.fatbin"));
            fs::write(&file, code)?;
            let mut extract = self.beside("cuobjdump");
            let wanted = format!(".{arch}.cubin");
            extract.current_dir(&folder).arg("-xelf").arg(&wanted).arg(&file);
            let said = output(&mut extract)?.0;
            let cubin = said.lines().find_map(|line| line.split_whitespace().last());
            let cubin = cubin.filter(|cubin| cubin.ends_with(&wanted));
            let cubin = folder.join(cubin.ok_or_else(|| format!("{name}: no code for {arch}"))?);
            let usage = output(self.beside("cuobjdump").arg("-res-usage").arg(&cubin))?.0;
            let resources = resources::carried(&usage, arch);
            Ok(Built { resources, assembly: self.disassembled(&cubin)? })
        })
    }

    fn disassembled(&self, cubin: &Path) -> Result<String> {
        Ok(output(self.beside("nvdisasm").arg("-c").arg(cubin))?.0)
    }

    /// Another program of the toolkit.
    fn beside(&self, name: &str) -> Command {
        Command::new(self.nvcc.with_file_name(name))
    }

    /// The machine code's file, and what `ptxas` said.
    fn cubin(&self, kernels: &Path, source: &Path, arch: &str) -> Result<(PathBuf, String)> {
        let folder = folder()?;
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let cubin = folder.join(format!("{stem}.{arch}.cubin"));
        let mut nvcc = Command::new(&self.nvcc);
        nvcc.args(["-std=c++17", "-cubin", "-Xptxas", "-v", "-arch", arch, "-I"]).arg(kernels);
        let log = output(nvcc.arg("-o").arg(&cubin).arg(source))?.1;
        Ok((cubin, log))
    }
}

/// Does something with all sources, as many at a time as there are processors; the results are in their order.
fn on_all<S: Sync, T: Send>(
    sources: &[S],
    each: impl Fn(&S) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let slots: Vec<Mutex<Option<T>>> = sources.iter().map(|_| Mutex::new(None)).collect();
    let work = || {
        while let Some(at) = Some(next.fetch_add(1, Relaxed)).filter(|at| *at < sources.len()) {
            let built = each(&sources[at]).map_err(|error| error.to_string())?;
            *slots[at].lock().map_err(|error| error.to_string())? = Some(built);
        }
        Ok::<(), String>(())
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        running.into_iter().try_for_each(|worker| worker.join().map_err(|_| "a worker panicked")?)
    })?;
    Ok(slots.into_iter().filter_map(|slot| slot.into_inner().ok().flatten()).collect())
}

/// Where machine code is put, as an absolute path: programs run there.
fn folder() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let folder = std::path::absolute(target.join("kernels"))?;
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// The kernel sources in a folder, sorted.
pub(super) fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut sources: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "cu"));
    sources.sort();
    Ok(sources)
}

/// `target/cuda/lib/python*/site-packages/nvidia/cu*/bin/nvcc`.
fn installed() -> Vec<PathBuf> {
    let below = |folder: PathBuf, prefix: &'static str| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| e.path()).filter(move |path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
    };
    below("target/cuda/lib".into(), "python")
        .flat_map(|python| below(python.join("site-packages/nvidia"), "cu"))
        .map(|toolkit| toolkit.join("bin/nvcc"))
        .collect()
}

fn output(command: &mut Command) -> Result<(String, String)> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{program}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    if !output.status.success() {
        return Err(format!("{program}: {}\n{errors}", output.status).into());
    }
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), errors))
}
