// SPDX-License-Identifier: MIT OR Apache-2.0
//! The switches of the simulator, and the environment variables that set their first values.

/// Which build of the kernels runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Compiled for speed; only guard pages and poisoned memory catch errors.
    #[default]
    Plain,
    /// Every access is checked: bounds, alignment, initialised bytes, shared-memory races and
    /// stream races. Memory is followed from its allocation on, so choose this before allocating.
    Checked,
}

/// When work on a stream runs, within what events and synchronisation allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum StreamOrder {
    /// At once, so that missing waits stay hidden.
    Eager,
    /// As late as possible: only when the host waits for it, and then only what that wait needs.
    #[default]
    Lazy,
    /// Interleaved with other streams at random.
    Random,
}

/// The order of the threads of a block and of the blocks of a grid; also when an asynchronous copy
/// lands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum ThreadOrder {
    /// From the first to the last; asynchronous copies land at their wait.
    #[default]
    Ascending,
    /// From the last to the first; asynchronous copies land at once.
    Descending,
    /// At random, asynchronous copies too.
    Random,
}

/// The GPU that is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum DeviceModel {
    /// Compute capability 8.0 with 108 multiprocessors.
    Sm80,
    /// Compute capability 9.0 with 132 multiprocessors.
    #[default]
    Sm90,
}

/// Kinds of images that modules are loaded from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum ImageKind {
    /// Lists of names, which no other driver takes.
    #[default]
    Names,
    /// PTX.
    Ptx,
    /// Cubins and fat binaries.
    Binary,
}

/// A switch whose values have names in the environment and numbers at the shared object's boundary.
pub(crate) trait Named: Copy + 'static {
    /// Every value with its name; the position is its number.
    const VALUES: &'static [(&'static str, Self)];

    fn from_number(number: u32) -> Option<Self> {
        Self::VALUES.get(number as usize).map(|value| value.1)
    }
}

impl Named for Mode {
    const VALUES: &'static [(&'static str, Self)] =
        &[("plain", Mode::Plain), ("checked", Mode::Checked)];
}
impl Named for StreamOrder {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("eager", StreamOrder::Eager),
        ("lazy", StreamOrder::Lazy),
        ("random", StreamOrder::Random),
    ];
}
impl Named for ThreadOrder {
    const VALUES: &'static [(&'static str, Self)] = &[
        ("ascending", ThreadOrder::Ascending),
        ("descending", ThreadOrder::Descending),
        ("random", ThreadOrder::Random),
    ];
}
impl Named for DeviceModel {
    const VALUES: &'static [(&'static str, Self)] =
        &[("sm_80", DeviceModel::Sm80), ("sm_90", DeviceModel::Sm90)];
}

impl Named for ImageKind {
    const VALUES: &'static [(&'static str, Self)] =
        &[("names", ImageKind::Names), ("ptx", ImageKind::Ptx), ("binary", ImageKind::Binary)];
}

/// All switches.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) streams: StreamOrder,
    pub(crate) threads: ThreadOrder,
    pub(crate) device: DeviceModel,
    pub(crate) seed: u64,
    /// Device memory in bytes.
    pub(crate) memory: usize,
    /// The CUDA version that the driver says it is of: 13000 for 13.0.
    pub(crate) version: u32,
    /// The latest version of PTX that it compiles, 90 for 9.0; any if 0.
    pub(crate) latest_ptx: u32,
    /// With what it refuses to start, if not 0.
    pub(crate) refused_start: u32,
    /// With what it refuses images of each kind, if not 0.
    pub(crate) refused_images: [u32; ImageKind::VALUES.len()],
}

impl Settings {
    const DEFAULT_MEMORY: usize = 8 << 30;
    const DEFAULT_VERSION: u32 = 13000;

    /// The defaults, changed by the environment.
    ///
    /// # Errors
    /// Names the variable whose value is not understood, and what it may be.
    pub(crate) fn from_environment() -> Result<Self, String> {
        Self::read(|variable| std::env::var(variable).ok())
    }

    fn read(value: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let named = Variables(&value);
        Ok(Self {
            mode: named.choice("KILN_SIM_MODE")?,
            streams: named.choice("KILN_SIM_STREAMS")?,
            threads: named.choice("KILN_SIM_THREADS")?,
            device: named.choice("KILN_SIM_DEVICE")?,
            seed: named.number("KILN_SIM_SEED", 1)?,
            version: named.small("KILN_SIM_VERSION", Self::DEFAULT_VERSION)?,
            latest_ptx: named.small("KILN_SIM_LATEST_PTX", 0)?,
            refused_start: named.small("KILN_SIM_REFUSED_START", 0)?,
            ..Self::default()
        })
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            streams: StreamOrder::default(),
            threads: ThreadOrder::default(),
            device: DeviceModel::default(),
            seed: 1,
            memory: Self::DEFAULT_MEMORY,
            version: Self::DEFAULT_VERSION,
            latest_ptx: 0,
            refused_start: 0,
            refused_images: Default::default(),
        }
    }
}

/// Where the values of environment variables come from.
struct Variables<'a, F>(&'a F);

impl<F: Fn(&str) -> Option<String>> Variables<'_, F> {
    fn choice<T: Named + Default>(&self, variable: &str) -> Result<T, String> {
        let Some(text) = (self.0)(variable) else { return Ok(T::default()) };
        let found = T::VALUES.iter().find(|value| value.0 == text).map(|value| value.1);
        found.ok_or_else(|| {
            let names: Vec<_> = T::VALUES.iter().map(|value| value.0).collect();
            format!("{variable}={text}: expected one of {}", names.join(", "))
        })
    }

    fn number(&self, variable: &str, default: u64) -> Result<u64, String> {
        let Some(text) = (self.0)(variable) else { return Ok(default) };
        text.parse().map_err(|_| format!("{variable}={text}: expected a whole number"))
    }

    fn small(&self, variable: &str, default: u32) -> Result<u32, String> {
        let number = self.number(variable, default.into())?;
        u32::try_from(number).map_err(|_| format!("{variable}={number}: expected less than 2^32"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_read_or_refused() {
        let settings = Settings::read(|variable| match variable {
            "KILN_SIM_STREAMS" => Some("random".into()),
            "KILN_SIM_SEED" => Some("42".into()),
            _ => None,
        });
        let settings = settings.expect("known values");
        assert_eq!((settings.streams, settings.seed), (StreamOrder::Random, 42));
        assert_eq!((settings.mode, settings.device), (Mode::Plain, DeviceModel::Sm90));
        let wrong = |name: &'static str| Settings::read(move |v| (v == name).then(|| "odd".into()));
        let text = wrong("KILN_SIM_THREADS").expect_err("no such order");
        assert!(text.contains("KILN_SIM_THREADS=odd") && text.contains("descending"), "{text}");
        assert!(wrong("KILN_SIM_SEED").is_err());
    }

    #[test]
    fn numbers_are_positions() {
        assert_eq!(ThreadOrder::from_number(ThreadOrder::Random as u32), Some(ThreadOrder::Random));
        assert_eq!(DeviceModel::from_number(DeviceModel::Sm80 as u32), Some(DeviceModel::Sm80));
        assert_eq!(Mode::from_number(2), None);
    }
}
