// SPDX-License-Identifier: MIT OR Apache-2.0
//! The device under test with all kernels loaded, and launches by name: the simulated one, or with `KILN_TEST_GPU=1` a
//! real GPU.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::ffi::{c_void, CString};
use std::io::Write as _;
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUfunction_attribute_enum, CUmodule};
use cudarc::driver::{result, CudaContext, CudaStream};
use kiln::backend::cuda::lab::Lab;
use kiln::backend::cuda::{CudaOptions, DeviceInfo};
use kiln_simcuda::{DeviceModel, Exclusive, Mode};

use crate::abi::{KilnDivider, KilnScalars};
use crate::ledger::Ledger;
use crate::memory::{Address, Memory};
use crate::walk::MUTANTS;

/// Blocks, threads and dynamic shared memory of a launch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    pub(crate) blocks: [usize; 3],
    pub(crate) threads: [usize; 2],
    pub(crate) shared: usize,
}

impl Grid {
    /// Blocks of 256 threads.
    pub(crate) fn of(blocks: usize) -> Self {
        Grid { blocks: [blocks, 1, 1], threads: [256, 1], shared: 0 }
    }
}

/// The device for as long as the value lives, and what was found out on it.
pub(crate) struct Gpu {
    mode: Mode,
    info: DeviceInfo,
    functions: BTreeMap<String, CUfunction>,
    modules: Vec<CUmodule>,
    scalars: Option<Memory>,
    ledger: RefCell<Ledger>,
    stream: Arc<CudaStream>,
    /// The simulated driver, which has switches and counters that a real one has not. Last, so that everything else is
    /// gone when the turn ends.
    turn: Option<Exclusive>,
}

/// Whether the device under test is a real GPU: `KILN_TEST_GPU=1`.
pub(crate) fn is_real() -> bool {
    std::env::var_os("KILN_TEST_GPU").is_some_and(|value| value == "1")
}

/// Says why a test, or a part of one, cannot be run here.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // Straight to the stream: what a passing test prints is not shown.
    writeln!(std::io::stderr(), "{test}: skipped: {why}").expect("a stream");
}

/// Numbers of the run that every launch reads.
pub(crate) const SCALARS: KilnScalars = KilnScalars {
    learning_rate: 0.01,
    momentum: 0.0,
    one_minus_momentum: 1.0,
    share: 0.5,
    exact_momentum: 0.0,
    pass: 3,
    sample_offset: 1000,
    average: 1.0,
};

impl Gpu {
    /// Waits for a turn, starts the driver in a mode and loads every kernel.
    pub(crate) fn open(mode: Mode) -> Self {
        Self::open_model(mode, DeviceModel::Sm90)
    }

    /// The same with a simulated device of this model.
    pub(crate) fn open_model(mode: Mode, model: DeviceModel) -> Self {
        let simulated = || kiln_simcuda::load().expect("built with this test").exclusive();
        let turn = (!is_real()).then(simulated);
        if let Some(turn) = &turn {
            turn.set_mode(mode);
            turn.set_device(model);
        }
        // The form that the backend would load; its context is this one.
        let context = CudaContext::new(0).expect("a device");
        let lab = Lab::open(0, CudaOptions::default()).expect("a device");
        context.bind_to_thread().expect("a context");
        let stream = context.new_stream().expect("a stream");
        let (mut modules, mut functions) = (Vec::new(), BTreeMap::new());
        for source in lab.modules().expect("the kernels in some form") {
            // SAFETY: machine code, or a string that ends in a zero, as the driver wants text.
            let module = unsafe { result::module::load_data(source.image.as_ptr().cast()) };
            let module = module.expect("a form that the backend loads");
            modules.push(module);
            for &name in source.kernels {
                let text = CString::new(name).expect("names hold no zeros");
                // SAFETY: the module was just loaded.
                let function = unsafe { result::module::get_function(module, text) };
                let function = function.unwrap_or_else(|error| panic!("{name}: {error}"));
                functions.insert(name.to_owned(), function);
            }
        }
        let names: Vec<String> = functions.keys().cloned().collect();
        assert!(names.len() > 100, "found {} kernels", names.len());
        if turn.is_some() {
            let entries = MUTANTS.map(|name| format!(".visible .entry {name}\n"));
            let image = CString::new(entries.concat()).expect("names hold no zeros");
            // SAFETY: a string that ends in a zero, as the driver wants text.
            let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
            let module = module.expect("the driver was built with them");
            modules.push(module);
            for name in MUTANTS {
                let text = CString::new(name).expect("names hold no zeros");
                // SAFETY: the module was just loaded.
                let function = unsafe { result::module::get_function(module, text) };
                functions.insert(name.to_owned(), function.expect("an entry"));
            }
        }
        let ledger = RefCell::new(Ledger::new(names));
        let info = lab.info().clone();
        drop(lab);
        let mut gpu = Gpu { mode, info, functions, modules, scalars: None, ledger, stream, turn };
        gpu.scalars = Some(scalars_memory(&SCALARS));
        gpu
    }

    /// The cases of a mode: checked kernels are slow, and sizes matter less to what is checked.
    pub(crate) fn cases<'a, T>(&self, plain: &'a [T], checked: &'a [T]) -> &'a [T] {
        match self.mode {
            Mode::Plain => plain,
            Mode::Checked => checked,
        }
    }

    /// [`SCALARS`] in device memory.
    pub(crate) fn scalars(&self) -> Address {
        self.scalars.as_ref().expect("made when the device was opened").address()
    }

    /// Launches a kernel with its parameter structure and waits for it.
    pub(crate) fn launch<P: Copy>(&self, kernel: &str, grid: Grid, params: &P) {
        let function = *self.functions.get(kernel).unwrap_or_else(|| panic!("no kernel {kernel}"));
        let Grid { blocks: [x, y, z], threads: [tx, ty], shared } = grid;
        self.allow_shared(kernel, shared);
        let mut params = *params;
        let mut arguments = [(&raw mut params).cast::<c_void>()];
        // SAFETY: every kernel takes one structure of `abi.h`, which is copied by the call; the
        // memory that it names lives until the end of this function.
        let launched = unsafe {
            result::launch_kernel(
                function,
                (x as u32, y as u32, z as u32),
                (tx as u32, ty as u32, 1),
                shared as u32,
                self.stream.cu_stream(),
                &mut arguments,
            )
        };
        let finished = launched.and_then(|()| self.stream.synchronize());
        if let Err(error) = finished {
            let told =
                self.turn.as_ref().map_or_else(|| error.to_string(), |turn| turn.last_error());
            panic!("{kernel} {grid:?}: {told}");
        }
        self.ledger().launched(kernel);
    }

    /// Lets a kernel use as much dynamic shared memory.
    pub(crate) fn allow_shared(&self, kernel: &str, shared: usize) {
        let attribute = CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        if shared > 48 << 10 {
            let function = self.function(kernel);
            // SAFETY: the function belongs to a loaded module.
            unsafe { result::function::set_function_attribute(function, attribute, shared as i32) }
                .expect("as much shared memory as any device has");
        }
    }

    /// A kernel by its name.
    pub(crate) fn function(&self, kernel: &str) -> CUfunction {
        self.functions[kernel]
    }

    pub(crate) fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// The simulated driver, if it is the one under test.
    pub(crate) fn simulator(&self) -> Option<&Exclusive> {
        self.turn.as_ref()
    }

    pub(crate) fn info(&self) -> &DeviceInfo {
        &self.info
    }

    /// Where results are compared.
    pub(crate) fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    /// Fails if the driver saw something wrong or a kernel was left out; else tells how exact the
    /// kernels were.
    pub(crate) fn finish(self) {
        self.assert_clean();
        self.ledger().finish(&self.words());
    }

    /// The same after a part of the kernels.
    pub(crate) fn finish_part(self) {
        self.assert_clean();
        self.ledger().tell(&self.words());
    }

    fn assert_clean(&self) {
        if let Some(turn) = &self.turn {
            assert_eq!(turn.take_reports(), Vec::<String>::new());
        }
    }

    /// What ran the kernels, and how.
    fn words(&self) -> String {
        match self.info.simulated {
            true => format!("simulated, {:?}", self.mode).to_lowercase(),
            false => self.info.model.clone(),
        }
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.scalars = None;
        for &module in &self.modules {
            // SAFETY: loaded once; no launch is under way. A failing test may have lost the context.
            let _ = unsafe { result::module::unload(module) };
        }
    }
}

/// Scalars in device memory.
pub(crate) fn scalars_memory(scalars: &KilnScalars) -> Memory {
    Memory::of_bytes(&scalars_bytes(scalars))
}

/// Scalars as they lie in memory.
pub(crate) fn scalars_bytes(scalars: &KilnScalars) -> Vec<u8> {
    let rates = [scalars.learning_rate, scalars.momentum, scalars.one_minus_momentum];
    let mut bytes: Vec<u8> = rates.iter().flat_map(|rate| rate.to_ne_bytes()).collect();
    bytes.extend(scalars.share.to_ne_bytes());
    bytes.extend(scalars.exact_momentum.to_ne_bytes());
    bytes.extend(scalars.pass.to_ne_bytes());
    bytes.extend(scalars.sample_offset.to_ne_bytes());
    bytes.extend(scalars.average.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes
}

/// The constants of a division by a number that is not zero, by their definition in `abi.h`.
pub(crate) fn divider(divisor: usize) -> KilnDivider {
    let shift = divisor.next_power_of_two().trailing_zeros();
    let multiplier = (1u128 << (32 + shift)).div_ceil(divisor as u128) - (1u128 << 32);
    KilnDivider { divisor: divisor as u32, multiplier: multiplier as u32, shift }
}
