// SPDX-License-Identifier: MIT OR Apache-2.0
//! The figures of one kernel on one architecture.

use std::fmt;
use std::ops::Range;

use super::bars::{self, Launch};
use super::device::Device;
use super::resources::Resources;
use super::sass::{Function, Instruction};

/// Everything that is reported and held to bars.
pub(super) struct Measured {
    pub(super) name: String,
    pub(super) resources: Resources,
    /// Bytes of dynamic shared memory of a launch.
    pub(super) dynamic_shared: u32,
    /// Blocks per multiprocessor.
    pub(super) occupancy: u32,
    /// Bytes of machine code.
    pub(super) code_bytes: usize,
    /// Loads and stores of local memory.
    pub(super) local: usize,
    /// Accesses to global memory of 16 bytes and of fewer; asynchronous copies of 16 bytes and of fewer.
    pub(super) wide: usize,
    pub(super) narrow: usize,
    pub(super) copies_wide: usize,
    pub(super) copies_narrow: usize,
    /// Instructions in all, without padding.
    pub(super) instructions: usize,
    pub(super) main_loop: Option<MainLoop>,
    /// Instructions per output from the last sum to the store.
    pub(super) tail_per_output: Option<f64>,
    /// IMAD.WIDE per output, the multiplications of Philox.
    pub(super) wide_multiplies_per_output: Option<f64>,
}

/// The innermost loop that multiplies.
pub(super) struct MainLoop {
    pub(super) instructions: usize,
    /// HMMA, or FFMA where there is none.
    pub(super) multiplies: usize,
    pub(super) barriers: usize,
    pub(super) copies: usize,
    /// Of the copies those of fewer than 16 bytes.
    pub(super) narrow_copies: usize,
    pub(super) loads: usize,
    pub(super) matrix_loads: usize,
    /// Bytes per lane of other loads of shared memory.
    shared_loads: u32,
    /// Whether tensor cores multiply.
    pub(super) on_tensor_cores: bool,
    /// Conversions and special functions, which have no place there.
    pub(super) strays: usize,
}

impl Measured {
    pub(super) fn new(function: &Function, resources: Resources, device: &Device) -> Self {
        let launch = bars::launch(&function.name, device);
        let all = 0..function.code.len();
        let count = |test: &dyn Fn(&Instruction) -> bool| count(function, &all, test);
        let global = |i: &Instruction| matches!(i.base(), "LDG" | "STG");
        let copy = |i: &Instruction| i.base() == "LDGSTS";
        let main_loop = main_loop(function);
        let tail = main_loop.as_ref().and_then(|at| tail(function, at.end, &launch));
        Measured {
            name: function.name.clone(),
            resources,
            dynamic_shared: launch.dynamic_shared,
            occupancy: device.occupancy(
                resources.registers,
                launch.threads,
                resources.shared + launch.dynamic_shared,
            ),
            code_bytes: function.code.len() * 16,
            local: count(&|i| matches!(i.base(), "LDL" | "STL")),
            wide: count(&|i| global(i) && i.width() == 16),
            narrow: count(&|i| global(i) && i.width() < 16),
            copies_wide: count(&|i| copy(i) && i.width() == 16),
            copies_narrow: count(&|i| copy(i) && i.width() < 16),
            instructions: count(&|i| !i.never && i.base() != "NOP"),
            main_loop: main_loop.map(|at| MainLoop::new(function, &at)),
            tail_per_output: tail.as_ref().map(|tail| tail.instructions),
            wide_multiplies_per_output: tail.map(|tail| tail.wide_multiplies),
        }
    }
}

impl MainLoop {
    fn new(function: &Function, at: &Range<usize>) -> Self {
        let count = |names: &[&str]| count(function, at, &|i| names.contains(&i.base()));
        let tensor = count(&["HMMA"]);
        MainLoop {
            instructions: self::count(function, at, &|i| !i.never),
            multiplies: if tensor > 0 { tensor } else { count(&["FFMA"]) },
            barriers: count(&["BAR"]),
            copies: count(&["LDGSTS"]),
            narrow_copies: self::count(function, at, &|i| i.base() == "LDGSTS" && i.width() < 16),
            loads: count(&["LDG"]),
            matrix_loads: count(&["LDSM"]),
            shared_loads: function.code[at.clone()]
                .iter()
                .filter(|i| i.base() == "LDS" && !i.never)
                .map(Instruction::width)
                .sum(),
            on_tensor_cores: tensor > 0,
            strays: count(&["I2F", "F2I", "MUFU", "STL", "LDL"]),
        }
    }

    /// Share of the multiplying instructions, in percent.
    pub(super) fn share(&self) -> f64 {
        100.0 * self.multiplies as f64 / self.instructions as f64
    }

    pub(super) fn per_multiply(&self) -> f64 {
        self.instructions as f64 / self.multiplies as f64
    }

    /// Cycles in which shared memory is busy per cycle of an A100's tensor cores: a warp's quarter of 128 bytes
    /// per cycle, and of 1024 multiply-adds, of which an HMMA makes 2048, or half as many of half the rate.
    pub(super) fn shared_per_tensor_cycle(&self) -> Option<f64> {
        let bytes = 512 * (self.matrix_loads + self.copies) + 32 * self.shared_loads as usize;
        let cycles = 8 * self.multiplies;
        self.on_tensor_cores.then(|| bytes as f64 / 32.0 / cycles as f64)
    }
}

fn count(function: &Function, range: &Range<usize>, test: &dyn Fn(&Instruction) -> bool) -> usize {
    function.code[range.clone()].iter().filter(|i| test(i)).count()
}

/// The shortest loop with a tensor-core instruction, else with at least a hundred FFMA and a barrier.
fn main_loop(function: &Function) -> Option<Range<usize>> {
    let has =
        |range: &&Range<usize>, name, least| count(function, range, &|i| i.base() == name) >= least;
    let tensor = function.loops.iter().filter(|range| has(range, "HMMA", 1));
    let plain =
        function.loops.iter().filter(|range| has(range, "FFMA", 100) && has(range, "BAR", 1));
    tensor.min_by_key(|range| range.len()).or(plain.min_by_key(|range| range.len())).cloned()
}

struct Tail {
    instructions: f64,
    wide_multiplies: f64,
}

/// The loop over fragment rows after the main loop. In each turn it takes one of several ways to fetch the sums, a block
/// of stores to shared memory each; they count as their mean. Loops inside it join the parts of a split k and are left out.
fn tail(function: &Function, after: usize, launch: &Launch) -> Option<Tail> {
    let outputs = f64::from(launch.outputs_per_turn?);
    let stores = |range: &Range<usize>| count(function, range, &|i| i.base() == "STG");
    let rows = function.loops.iter().filter(|range| range.start >= after && stores(range) > 0);
    let rows = rows.max_by_key(|range| range.len())?;
    let inner = |at: usize| function.loops.iter().any(|l| l.contains(&at) && l.len() < rows.len());
    let mut blocks: Vec<Vec<&Instruction>> = Vec::new();
    for (at, instruction) in function.code.iter().enumerate().take(rows.end).skip(rows.start) {
        if instruction.begins_block || blocks.is_empty() {
            blocks.push(Vec::new());
        }
        if !inner(at) && !instruction.never {
            blocks.last_mut()?.push(instruction);
        }
    }
    let fetches =
        |block: &&Vec<&Instruction>| block.iter().filter(|i| i.base() == "STS").count() >= 8;
    let ways: Vec<&Vec<&Instruction>> = blocks.iter().filter(fetches).collect();
    let fetch =
        ways.iter().map(|block| block.len()).sum::<usize>() as f64 / ways.len().max(1) as f64;
    let others = blocks.iter().filter(|block| !fetches(block)).map(Vec::len).sum::<usize>() as f64;
    let wide = blocks.iter().flatten().filter(|i| i.name.starts_with("IMAD.WIDE")).count() as f64;
    Some(Tail { instructions: (fetch + others) / outputs, wide_multiplies: wide / outputs })
}

/// The line above an architecture's kernels.
pub(super) fn heading(arch: &str) -> String {
    format!(
        "{arch:<36} {:>4} {:>5} {:>6} {:>6} {:>6} {:>9} {:>9} {:>9}  main loop, tail",
        "regs", "spill", "shared", "blocks", "instr", "global16", "narrower", "copies16"
    )
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resources { registers, spilled, shared, .. } = self.resources;
        let shared = shared + self.dynamic_shared;
        write!(
            f,
            "{:<36} {registers:>4} {spilled:>5} {shared:>6} {:>6}",
            self.name, self.occupancy
        )?;
        write!(f, " {:>6} {:>9} {:>9}", self.instructions, self.wide, self.narrow)?;
        write!(
            f,
            " {:>9}  ",
            format!("{}/{}", self.copies_wide, self.copies_wide + self.copies_narrow)
        )?;
        if let Some(main) = &self.main_loop {
            let (share, per) = (main.share(), main.per_multiply());
            write!(
                f,
                "{} of {} multiply, {share:.0}%, {per:.2} each",
                main.multiplies, main.instructions
            )?;
        }
        if let Some(tail) = self.tail_per_output {
            write!(f, "; {tail:.1} per output")?;
        }
        Ok(())
    }
}
