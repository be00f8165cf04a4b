// SPDX-License-Identifier: MIT OR Apache-2.0
//! Each emulated instruction against plain loops, in both builds and every thread order.

use super::common::{grid, Gpu, Numbers};
use cudarc::driver::{LaunchConfig, PushKernelArg};
use kiln_simcuda::{Mode, ThreadOrder};

const ORDERS: [ThreadOrder; 3] =
    [ThreadOrder::Ascending, ThreadOrder::Descending, ThreadOrder::Random];

/// Runs a test body in each mode and thread order, and demands that nothing was reported.
fn everywhere(body: impl Fn(&Gpu)) {
    for mode in [Mode::Plain, Mode::Checked] {
        for order in ORDERS {
            let gpu = Gpu::new(mode);
            gpu.simulator.set_thread_order(order);
            body(&gpu);
            assert_eq!(gpu.simulator.last_error(), "");
            gpu.no_reports();
        }
    }
}

#[test]
fn warp_operations() {
    let x: Vec<u32> = (0..32).map(|i| (i * 37 + 5) % 91).collect();
    let fold = |f: fn(u32, u32) -> u32| x.iter().copied().reduce(f).expect("32 values");
    let expected = |row: usize, lane: usize| -> u32 {
        match row {
            0 => x[5],
            1 => x[lane / 8 * 8 + (lane + 1) % 8],
            2 => x[lane ^ 3],
            3 => x[if lane + 4 < 32 { lane + 4 } else { lane }],
            4 => x[if lane % 8 >= 2 { lane - 2 } else { lane }],
            5 => x.iter().enumerate().map(|(i, v)| (v & 1) << i).sum(),
            6 => u32::from(x.contains(&7)) | u32::from(x.iter().all(|v| *v < 100)) << 1,
            7 => (0..32).filter(|i| x[*i] % 3 == x[lane] % 3).map(|i| 1 << i).sum(),
            8 => 0,
            9 => x.iter().sum(),
            10 => fold(u32::max) << 16 | fold(u32::min),
            11 => fold(u32::min).wrapping_sub(50),
            12 => {
                (fold(|a, b| a & b | 64) | 64) << 16 | fold(|a, b| a | b) << 8 | fold(|a, b| a ^ b)
            }
            13 => (x[lane ^ 1] << 8) + (lane as u32 ^ 1),
            14 => x[lane / 16 * 16..][..16].iter().sum(),
            _ => (x[lane ^ 16] as f32).to_bits(),
        }
    };
    everywhere(|gpu| {
        let input = gpu.stream.clone_htod(&x).expect("a copy");
        let mut out = gpu.stream.alloc_zeros::<u32>(16 * 32).expect("memory");
        let kernel = gpu.kernel("sim_warp");
        // SAFETY: the arguments are the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&mut out).arg(&input).launch(grid(1, 32)) }
            .expect("a launch");
        let out = gpu.stream.clone_dtoh(&out).expect("a copy");
        for row in (0..16).filter(|row| *row != 12) {
            for lane in 0..32 {
                assert_eq!(out[row * 32 + lane], expected(row, lane), "row {row} lane {lane}");
            }
        }
        let and = x.iter().fold(u32::MAX, |a, b| a & (b | 64));
        let (or, xor) = (x.iter().fold(0, |a, b| a | b), x.iter().fold(0, |a, b| a ^ b));
        assert_eq!(out[12 * 32], and << 16 | or << 8 | xor);
    });
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes: Vec<u8> = a.to_le_bytes().into_iter().chain(b.to_le_bytes()).collect();
    let pick = |i: u32| {
        let nibble = selector >> (4 * i) & 15;
        let byte = bytes[nibble as usize & 7];
        if nibble & 8 == 0 {
            byte
        } else {
            (byte as i8 >> 7) as u8
        }
    };
    u32::from_le_bytes([pick(0), pick(1), pick(2), pick(3)])
}

#[test]
fn integer_intrinsics() {
    let mut numbers = Numbers(3);
    let n = 300;
    let mut a: Vec<u32> = (0..n).map(|_| numbers.word()).collect();
    let b: Vec<u32> = (0..n).map(|_| numbers.word()).collect();
    (a[0], a[1], a[2]) = (0, u32::MAX, 1);
    everywhere(|gpu| {
        let (da, db) = (
            gpu.stream.clone_htod(&a).expect("a copy"),
            gpu.stream.clone_htod(&b).expect("a copy"),
        );
        let mut out = gpu.stream.alloc_zeros::<u32>(12 * n).expect("memory");
        let (kernel, count) = (gpu.kernel("sim_bits"), n as i32);
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&da).arg(&db).arg(&count);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(3, 128)) }.expect("a launch");
        let out = gpu.stream.clone_dtoh(&out).expect("a copy");
        for i in 0..n {
            let (x, y) = (a[i], b[i]);
            let expected = [
                ((u64::from(x) * u64::from(y)) >> 32) as u32,
                x.count_ones(),
                x.leading_zeros(),
                if x == 0 { 0 } else { x.trailing_zeros() + 1 },
                permute(x, y, 0x7531),
                permute(x, y, y & 0xffff),
                x.reverse_bits(),
                y << 5 | x >> 27,
                x >> 5 | y << 27,
                x.min(y),
                x.max(y),
                x & 0x3fff_ffff,
            ];
            for (k, want) in expected.into_iter().enumerate() {
                assert_eq!(out[k * n + i], want, "operation {k} of {x:#x}, {y:#x}");
            }
        }
    });
}

/// Rounds to the nearest multiple of the format's spacing, ties to even, by arithmetic in f64.
fn f16_bits(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let magnitude = f64::from(value.abs());
    let exponent = magnitude.log2().floor().max(-14.0);
    let steps = (magnitude / (exponent - 10.0).exp2()).round_ties_even();
    if magnitude.is_infinite() || steps * (exponent - 10.0).exp2() >= 65536.0 {
        return sign | 0x7c00;
    }
    // A mantissa that rounds up to 2048 carries into the exponent, as the addition below does.
    sign | (((exponent + 14.0) as u16) << 10).wrapping_add(steps as u16)
}

fn f16_value(bits: u16) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    let magnitude = match exponent {
        0 => mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    };
    (if bits & 0x8000 == 0 { magnitude } else { -magnitude }) as f32
}

fn bf16_bits(value: f32) -> u16 {
    if value.is_nan() {
        return 0x7fff;
    }
    let bits = value.to_bits();
    let (kept, dropped) = ((bits >> 16) as u16, bits & 0xffff);
    kept + u16::from(dropped > 0x8000 || dropped == 0x8000 && kept & 1 == 1)
}

#[test]
fn conversions() {
    let mut numbers = Numbers(11);
    let n = 1 << 16;
    let mut x: Vec<f32> = (0..n).map(|_| f32::from_bits(numbers.word())).collect();
    for (i, value) in x.iter_mut().enumerate().skip(n / 2) {
        *value = numbers.float() * ((i % 40) as f32 - 26.0).exp2(); // the range of f16
    }
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NAN, 65504.0, 65519.9, 65520.0, 2f32.powi(-25), 6.1e-5];
    x[..special.len()].copy_from_slice(&special);
    let gpu = Gpu::new(Mode::Plain);
    let input = gpu.stream.clone_htod(&x).expect("a copy");
    let mut out = gpu.stream.alloc_zeros::<u32>(6 * n).expect("memory");
    let (kernel, count) = (gpu.kernel("sim_convert"), n as i32);
    let mut launch = gpu.stream.launch_builder(&kernel);
    launch.arg(&mut out).arg(&input).arg(&count);
    // SAFETY: the arguments are the kernel's.
    unsafe { launch.launch(grid(n as u32 / 256, 256)) }.expect("a launch");
    let out = gpu.stream.clone_dtoh(&out).expect("a copy");
    for (i, value) in x.iter().copied().enumerate() {
        let bits = value.to_bits();
        assert_eq!(out[i], u32::from(bf16_bits(value)), "bf16 of {value:e}");
        assert_eq!(out[n + i], u32::from(f16_bits(value)), "f16 of {value:e}");
        let tf32 = if value.is_nan() {
            0x7fff_ffff
        } else if value.is_infinite() {
            bits
        } else {
            bits.wrapping_add(0x1000) & !0x1fff
        };
        assert_eq!(out[2 * n + i], tf32, "tf32 of {value:e}");
        assert_eq!(out[3 * n + i], u32::from(bf16_bits(value)) << 16);
        let half = f16_value(i as u16);
        let back = f32::from_bits(out[4 * n + i]);
        assert!(
            back.to_bits() == half.to_bits() || back.is_nan() && half.is_nan(),
            "{i:#x} {back} {half}"
        );
        assert_eq!(
            out[5 * n + i],
            u32::from(bf16_bits(value)) | u32::from(bf16_bits(-value)) << 16
        );
    }
}

fn assert_close(out: &[f32], expected: &[f64]) {
    for (i, (got, want)) in out.iter().zip(expected).enumerate() {
        let error = (f64::from(*got) - want).abs();
        assert!(error <= 4e-6 * (1.0 + want.abs()), "element {i}: {got} instead of {want}");
    }
}

#[test]
fn mma_16bit_with_ldmatrix() {
    let mut numbers = Numbers(5);
    let (a, b, d) = (numbers.floats(256), numbers.floats(128), numbers.floats(128));
    type Format = (&'static str, fn(f32) -> u16, fn(u16) -> f32);
    let formats: [Format; 2] = [
        ("sim_mma_bf16", bf16_bits, |bits| f32::from_bits(u32::from(bits) << 16)),
        ("sim_mma_f16", f16_bits, f16_value),
    ];
    for (name, encode, decode) in formats {
        let a: Vec<u16> = a.iter().map(|v| encode(*v)).collect();
        let b: Vec<u16> = b.iter().map(|v| encode(*v)).collect();
        let mut expected: Vec<f64> = d.iter().map(|v| f64::from(*v)).collect();
        for m in 0..16 {
            for n in 0..8 {
                for k in 0..16 {
                    expected[m * 8 + n] +=
                        f64::from(decode(a[m * 16 + k])) * f64::from(decode(b[k * 8 + n]));
                }
            }
        }
        everywhere(|gpu| {
            let (da, db) = (
                gpu.stream.clone_htod(&a).expect("a copy"),
                gpu.stream.clone_htod(&b).expect("a copy"),
            );
            let mut out = gpu.stream.clone_htod(&d).expect("a copy");
            let kernel = gpu.kernel(name);
            let mut launch = gpu.stream.launch_builder(&kernel);
            launch.arg(&mut out).arg(&da).arg(&db);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.launch(grid(1, 32)) }.expect("a launch");
            assert_close(&gpu.stream.clone_dtoh(&out).expect("a copy"), &expected);
        });
    }
}

#[test]
fn mma_tf32_ignores_the_low_bits() {
    let mut numbers = Numbers(6);
    let (a, b) = (numbers.floats(128), numbers.floats(64));
    let read = |v: f32| f64::from(f32::from_bits(v.to_bits() & !0x1fff));
    let mut expected = vec![0.0; 128];
    for m in 0..16 {
        for n in 0..8 {
            for k in 0..8 {
                expected[m * 8 + n] += read(a[m * 8 + k]) * read(b[k * 8 + n]);
            }
        }
    }
    everywhere(|gpu| {
        let (da, db) = (
            gpu.stream.clone_htod(&a).expect("a copy"),
            gpu.stream.clone_htod(&b).expect("a copy"),
        );
        let mut out = gpu.stream.alloc_zeros::<f32>(128).expect("memory");
        let kernel = gpu.kernel("sim_mma_tf32");
        let mut launch = gpu.stream.launch_builder(&kernel);
        launch.arg(&mut out).arg(&da).arg(&db);
        // SAFETY: the arguments are the kernel's.
        unsafe { launch.launch(grid(1, 32)) }.expect("a launch");
        assert_close(&gpu.stream.clone_dtoh(&out).expect("a copy"), &expected);
    });
}

#[test]
fn ldmatrix_layouts() {
    let values: Vec<u16> = (0..256).collect();
    let at = |j: usize, row: usize, column: usize| u32::from(values[j * 64 + row * 8 + column]);
    everywhere(|gpu| {
        let input = gpu.stream.clone_htod(&values).expect("a copy");
        let mut out = gpu.stream.alloc_zeros::<u32>(8 * 32).expect("memory");
        let kernel = gpu.kernel("sim_ldmatrix");
        let config = LaunchConfig { shared_mem_bytes: 512, ..grid(1, 32) };
        // SAFETY: the arguments are the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&mut out).arg(&input).launch(config) }
            .expect("a launch");
        let out = gpu.stream.clone_dtoh(&out).expect("a copy");
        for lane in 0..32 {
            let (g, t) = (lane / 4, lane % 4 * 2);
            for j in 0..4 {
                assert_eq!(out[j * 32 + lane], at(j, g, t) | at(j, g, t + 1) << 16);
                assert_eq!(out[(j + 4) * 32 + lane], at(j, t, g) | at(j, t + 1, g) << 16);
            }
        }
    });
}

#[test]
fn async_copies_fill_with_zeros() {
    for n in [1usize, 4, 255, 256, 257, 1000] {
        let x: Vec<f32> = (0..n).map(|i| i as f32 + 1.0).collect();
        let padded = n.next_multiple_of(4);
        everywhere(|gpu| {
            let input = gpu.stream.clone_htod(&x).expect("a copy");
            let mut out = gpu.stream.alloc_zeros::<f32>(padded).expect("memory");
            let (kernel, count) = (gpu.kernel("sim_async_copy"), n as i32);
            let mut launch = gpu.stream.launch_builder(&kernel);
            launch.arg(&mut out).arg(&input).arg(&count);
            // SAFETY: the arguments are the kernel's.
            unsafe { launch.launch(grid(1, 64)) }.expect("a launch");
            let out = gpu.stream.clone_dtoh(&out).expect("a copy");
            assert_eq!(out[..n], x[..]);
            assert!(out[n..].iter().all(|v| *v == 0.0));
        });
    }
}

#[test]
fn atomics() {
    everywhere(|gpu| {
        let mut counters = gpu.stream.alloc_zeros::<u32>(6).expect("memory");
        let kernel = gpu.kernel("sim_atomics");
        // SAFETY: the argument is the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&mut counters).launch(grid(3, 96)) }
            .expect("a launch");
        let found = gpu.stream.clone_dtoh(&counters).expect("a copy");
        let total = 3 * 96;
        assert_eq!(found[0], total * (total - 1) / 2);
        assert_eq!((found[1], found[2], found[4], found[5]), (total - 1, 77, 1, total));
        assert!((1..=total).contains(&found[3]));
    });
}

#[test]
fn three_dimensional_blocks_and_grids() {
    let (threads, blocks) = (4 * 3 * 5, 2 * 2 * 3);
    let x: Vec<f32> = (0..threads * blocks).map(|i| i as f32).collect();
    let config = LaunchConfig {
        grid_dim: (2, 2, 3),
        block_dim: (4, 3, 5),
        shared_mem_bytes: threads as u32 * 4,
    };
    everywhere(|gpu| {
        let mut out = gpu.stream.clone_htod(&x).expect("a copy");
        let kernel = gpu.kernel("sim_reverse");
        // SAFETY: the argument is the kernel's.
        unsafe { gpu.stream.launch_builder(&kernel).arg(&mut out).launch(config) }
            .expect("a launch");
        let out = gpu.stream.clone_dtoh(&out).expect("a copy");
        for block in 0..blocks {
            for i in 0..threads {
                assert_eq!(out[block * threads + i], x[block * threads + threads - 1 - i]);
            }
        }
    });
}
