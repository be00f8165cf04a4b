// SPDX-License-Identifier: MIT OR Apache-2.0
//! What CUDA's libraries are called on each operating system, and in which folders things lie.
//!
//! All of it follows from the system and its environment variables, so that the rules of every
//! system are tested on each.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// An operating system, as far as it decides names and folders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum System {
    /// Linux, and whatever follows its conventions.
    Linux,
    MacOs,
    Windows,
}

/// Looks an environment variable up.
pub(super) type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl System {
    /// The one that this program was built for.
    pub(super) const THIS: System = if cfg!(windows) {
        System::Windows
    } else if cfg!(target_os = "macos") {
        System::MacOs
    } else {
        System::Linux
    };

    /// Why there is no driver, in the words of an error.
    pub(super) fn missing_driver(self) -> &'static str {
        match self {
            System::Linux => "libcuda was not found",
            System::MacOs => "NVIDIA makes none for macOS",
            System::Windows => "nvcuda.dll was not found",
        }
    }

    /// NVRTC, as an error names it.
    pub(super) fn nvrtc(self) -> &'static str {
        match self {
            System::Linux | System::MacOs => "libnvrtc",
            System::Windows => "nvrtc64_*.dll",
        }
    }

    /// Names under which the system's loader may find NVRTC: those of CUDA 13 and 12.
    pub(super) fn nvrtc_names(self) -> &'static [&'static str] {
        match self {
            System::Linux => &["libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"],
            System::MacOs => &[],
            System::Windows => &["nvrtc64_130_0.dll", "nvrtc64_120_0.dll"],
        }
    }

    /// Whether a file of this name in a toolkit's folder is NVRTC, whatever its version.
    pub(super) fn is_nvrtc(self, file: &str) -> bool {
        match self {
            System::Linux => file.starts_with("libnvrtc.so"),
            System::MacOs => false,
            // The `.alt.dll` beside it is another build, to be asked for by its name alone.
            System::Windows => {
                file.starts_with("nvrtc64_") && file.ends_with(".dll") && !file.contains(".alt.")
            }
        }
    }

    /// Whether a file of this name is what NVRTC loads by name when it compiles.
    pub(super) fn is_nvrtc_builtins(self, file: &str) -> bool {
        match self {
            System::Linux => file.starts_with("libnvrtc-builtins.so"),
            System::MacOs => false,
            System::Windows => {
                file.starts_with("nvrtc-builtins64_")
                    && file.ends_with(".dll")
                    && !file.contains(".alt.")
            }
        }
    }

    /// Folders of an installed toolkit that may hold NVRTC, most likely first.
    pub(super) fn toolkit_folders(self, variable: Variable<'_>) -> Vec<PathBuf> {
        let (variables, usual, below): (_, _, &[&str]) = match self {
            System::Linux => {
                (["CUDA_HOME", "CUDA_PATH"], Some("/usr/local/cuda"), &["lib64", "lib"])
            }
            System::MacOs => return Vec::new(),
            // CUDA 13 moved the libraries one folder down.
            System::Windows => (["CUDA_PATH", "CUDA_HOME"], None, &["bin/x64", "bin"]),
        };
        let named = variables.iter().filter_map(|name| folder(variable, name));
        let roots = named.chain(usual.map(PathBuf::from));
        roots.flat_map(|root| below.iter().map(move |folder| root.join(folder))).collect()
    }

    /// Folders in which pip and conda put NVRTC, in the environment that is active.
    pub(super) fn package_folders(self, variable: Variable<'_>) -> Vec<PathBuf> {
        let (libraries, below): (&str, &[&str]) = match self {
            System::Linux => ("lib", &["cu13/lib", "cuda_nvrtc/lib"]),
            System::MacOs => return Vec::new(),
            System::Windows => ("Lib", &["cu13/bin/x86_64", "cu13/bin", "cuda_nvrtc/bin"]),
        };
        let environments = ["VIRTUAL_ENV", "CONDA_PREFIX"];
        let roots: Vec<PathBuf> =
            environments.iter().filter_map(|name| folder(variable, name)).collect();
        let mut folders = Vec::new();
        for root in &roots {
            let root = root.join(libraries);
            // On Windows packages lie in `Lib` itself, elsewhere below the version of Python.
            let homes = std::iter::once(root.clone()).chain(versions_of_python(&root));
            for home in homes {
                let packages = home.join("site-packages").join("nvidia");
                folders.extend(below.iter().map(|folder| packages.join(folder)));
            }
            folders.push(root);
        }
        folders
    }

    /// The user's folder for what can be made again; `None` if the system has none.
    pub(super) fn cache_folder(self, variable: Variable<'_>) -> Option<PathBuf> {
        let named = |name| folder(variable, name);
        let home = |below: &str| Some(named("HOME")?.join(below));
        let folder = match self {
            System::Linux => named("XDG_CACHE_HOME").or_else(|| home(".cache")),
            System::MacOs => named("XDG_CACHE_HOME").or_else(|| home("Library/Caches")),
            System::Windows => named("LOCALAPPDATA")
                .or_else(|| Some(named("USERPROFILE")?.join("AppData").join("Local"))),
        };
        Some(folder?.join("kiln"))
    }

    /// The variables that [`cache_folder`](System::cache_folder) asks.
    pub(super) fn cache_variables(self) -> &'static str {
        match self {
            System::Linux | System::MacOs => "XDG_CACHE_HOME or HOME",
            System::Windows => "LOCALAPPDATA or USERPROFILE",
        }
    }
}

/// The folders `python3.N` in a folder, the latest last in the order of names.
fn versions_of_python(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_python = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with("python3");
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| is_python(&entry.file_name())).map(|entry| entry.path()).collect();
    found.sort();
    found
}

/// The folder that a variable names; an empty one names none.
fn folder(variable: Variable<'_>, name: &str) -> Option<PathBuf> {
    variable(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::System::{Linux, MacOs, Windows};
    use super::*;

    /// An environment with these variables.
    fn environment<'a>(
        variables: &'a [(&'a str, &'a str)],
    ) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| Some(variables.iter().find(|(known, _)| *known == name)?.1.into())
    }

    #[test]
    fn caches_lie_where_each_system_keeps_them() {
        type Case<'a> = (System, &'a [(&'a str, &'a str)], Option<&'a str>);
        let cases: [Case<'_>; 8] = [
            (Linux, &[("HOME", "/home/a")], Some("/home/a/.cache/kiln")),
            (Linux, &[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/c")], Some("/c/kiln")),
            (Linux, &[("HOME", "/home/a"), ("XDG_CACHE_HOME", "")], Some("/home/a/.cache/kiln")),
            (Linux, &[("LOCALAPPDATA", "/l")], None),
            (MacOs, &[("HOME", "/Users/a")], Some("/Users/a/Library/Caches/kiln")),
            (Windows, &[("LOCALAPPDATA", "/l"), ("HOME", "/home/a")], Some("/l/kiln")),
            (Windows, &[("USERPROFILE", "/u")], Some("/u/AppData/Local/kiln")),
            (Windows, &[("HOME", "/home/a")], None),
        ];
        for (system, variables, expected) in cases {
            let folder = system.cache_folder(&environment(variables));
            assert_eq!(folder, expected.map(PathBuf::from), "{system:?} {variables:?}");
        }
    }

    #[test]
    fn toolkits_are_looked_for_where_their_installers_put_them() {
        let variables = environment(&[("CUDA_PATH", "/cuda"), ("CUDA_HOME", "")]);
        let folders = |system: System| system.toolkit_folders(&variables);
        assert_eq!(folders(Windows), ["/cuda/bin/x64", "/cuda/bin"].map(PathBuf::from));
        let usual = ["/usr/local/cuda/lib64", "/usr/local/cuda/lib"];
        assert_eq!(
            folders(Linux),
            ["/cuda/lib64", "/cuda/lib", usual[0], usual[1]].map(PathBuf::from)
        );
        assert!(folders(MacOs).is_empty());
    }

    #[test]
    fn packages_lie_below_the_python_that_is_active() {
        let root = tempfile::TempDir::new().expect("a folder");
        let root = root.path();
        std::fs::create_dir_all(root.join("lib/python3.12/site-packages")).expect("a folder");
        let named = root.to_string_lossy();
        let variables = [("VIRTUAL_ENV", &*named)];
        let found = Linux.package_folders(&environment(&variables));
        let expected = root.join("lib/python3.12/site-packages/nvidia/cu13/lib");
        assert!(found.contains(&expected), "{found:?}");
        assert!(found.contains(&root.join("lib")), "{found:?}");
        let found = Windows.package_folders(&environment(&variables));
        let expected = root.join("Lib").join("site-packages").join("nvidia");
        assert!(found.contains(&expected.join("cuda_nvrtc/bin")), "{found:?}");
        assert!(Linux.package_folders(&environment(&[])).is_empty());
    }

    #[test]
    fn libraries_of_every_version_are_known_by_their_names() {
        for file in ["nvrtc64_130_0.dll", "nvrtc64_120_0.dll", "nvrtc64_140_0.dll"] {
            assert!(Windows.is_nvrtc(file), "{file}");
        }
        for file in
            ["nvrtc64_120_0.alt.dll", "nvrtc-builtins64_130.dll", "nvrtc.lib", "cudart64_13.dll"]
        {
            assert!(!Windows.is_nvrtc(file), "{file}");
        }
        assert!(Windows.is_nvrtc_builtins("nvrtc-builtins64_130.dll"));
        assert!(Linux.is_nvrtc("libnvrtc.so.13.0.88"));
        assert!(!Linux.is_nvrtc("libnvrtc-builtins.so.13.0"));
        assert!(Linux.is_nvrtc_builtins("libnvrtc-builtins.so.13.0"));
        for system in [Linux, MacOs, Windows] {
            assert!(system.nvrtc_names().iter().all(|name| system.is_nvrtc(name)), "{system:?}");
        }
    }

    #[test]
    fn messages_name_the_libraries_of_the_system() {
        assert_eq!(Windows.missing_driver(), "nvcuda.dll was not found");
        assert_eq!(Linux.missing_driver(), "libcuda was not found");
        assert_eq!(Windows.nvrtc(), "nvrtc64_*.dll");
    }
}
