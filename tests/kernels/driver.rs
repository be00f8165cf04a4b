// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated device with all kernels loaded, and launches by name.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::ffi::{c_void, CString};
use std::sync::Arc;

use cudarc::driver::sys::{CUfunction, CUfunction_attribute_enum, CUmodule};
use cudarc::driver::{result, CudaContext, CudaStream};
use kiln_simcuda::{DeviceModel, Exclusive, Mode};

use crate::abi::{KilnDivider, KilnScalars};
use crate::ledger::{kernel_names, Ledger};
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
    functions: BTreeMap<String, CUfunction>,
    module: CUmodule,
    scalars: Option<Memory>,
    ledger: RefCell<Ledger>,
    stream: Arc<CudaStream>,
    /// Last, so that everything else is gone when the turn ends.
    turn: Exclusive,
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

    /// The same with a device of this model.
    pub(crate) fn open_model(mode: Mode, model: DeviceModel) -> Self {
        let turn = kiln_simcuda::load().expect("built with this test").exclusive();
        turn.set_mode(mode);
        turn.set_device(model);
        let context = CudaContext::new(0).expect("the simulated driver has a device");
        context.bind_to_thread().expect("a context");
        let stream = context.new_stream().expect("a stream");
        let names = kernel_names();
        let all: Vec<String> = names.iter().cloned().chain(MUTANTS.map(String::from)).collect();
        let image: String = all.iter().map(|name| format!(".visible .entry {name}\n")).collect();
        let image = CString::new(image).expect("names hold no zeros");
        // SAFETY: a string that ends in a zero, as the driver wants text.
        let module = unsafe { result::module::load_data(image.as_ptr().cast()) };
        let module = module.expect("the driver was built with the kernels");
        let function = |name: &String| {
            let text = CString::new(name.as_str()).expect("names hold no zeros");
            // SAFETY: the module was just loaded.
            let function = unsafe { result::module::get_function(module, text) };
            (name.clone(), function.unwrap_or_else(|error| panic!("{name}: {error}")))
        };
        let functions = all.iter().map(function).collect();
        let ledger = RefCell::new(Ledger::new(names));
        let mut gpu = Gpu { mode, functions, module, scalars: None, ledger, stream, turn };
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
        if finished.is_err() {
            panic!("{kernel} {grid:?}: {}", self.turn.last_error());
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

    pub(crate) fn turn(&self) -> &Exclusive {
        &self.turn
    }

    /// Where results are compared.
    pub(crate) fn ledger(&self) -> RefMut<'_, Ledger> {
        self.ledger.borrow_mut()
    }

    /// Fails if the driver saw something wrong or a kernel was left out; else tells how exact the
    /// kernels were.
    pub(crate) fn finish(self) {
        assert_eq!(self.turn.take_reports(), Vec::<String>::new());
        self.ledger().finish(&format!("{:?}", self.mode).to_lowercase());
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        self.scalars = None;
        // SAFETY: loaded once; no launch is under way. A failing test may have lost the context.
        let _ = unsafe { result::module::unload(self.module) };
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
