// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is chosen for the article's networks, a wide MLP and odd products, on three devices.

use super::*;

const A100: Machine = Machine::new(108, 80);
const H100: Machine = Machine::new(132, 90);
const RTX_5090: Machine = Machine::new(170, 120);
const MACHINES: [Machine; 3] = [A100, H100, RTX_5090];
const PRECISIONS: [Precision; 4] =
    [Precision::F32, Precision::Tf32, Precision::Bf16, Precision::F16];
const FORMS: [Form; 3] = [Form::Nt, Form::Nn, Form::Tn];

fn product(m: usize, n: usize, k: usize) -> Extents {
    Extents { m, n, k }
}

fn choose(form: Form, product: Extents, precision: Precision, machine: &Machine) -> Tiling {
    Tiling::choose(form, &[product], precision, machine)
}

/// Products of a layer: forward, input gradient, weight gradient.
fn of_layer(batch: usize, inputs: usize, outputs: usize) -> [(Form, Extents); 3] {
    [
        (Form::Nt, product(batch, outputs, inputs)),
        (Form::Nn, product(batch, inputs, outputs)),
        (Form::Tn, product(outputs, inputs, batch)),
    ]
}

fn modelled(tiling: Tiling, form: Form, product: Extents, machine: &Machine) -> usize {
    let rows = cost::rows(tiling.precision);
    let row = rows.iter().find(|row| row.tile == tiling.tile).expect("a row");
    cost::cycles(row, form, &[product], tiling.splits, tiling.precision, machine)
}

#[test]
fn products_that_fill_tiles_are_never_guarded() {
    for batch in [64, 256, 1024, 4096] {
        for (inputs, outputs) in [(784, 512), (512, 512), (4096, 4096), (64, 64), (1000, 72)] {
            for (form, product) in of_layer(batch, inputs, outputs) {
                for (precision, machine) in PRECISIONS.iter().zip(MACHINES.iter().cycle()) {
                    let tiling = choose(form, product, *precision, machine);
                    assert_ne!(tiling.tile, Tile::Guarded, "{form:?} {product:?} {precision}");
                }
            }
        }
    }
}

#[test]
fn odd_products_are_guarded_on_tensor_cores() {
    for (m, n, k) in [(64, 64, 31), (63, 64, 32), (64, 66, 32), (64, 10, 64), (64, 64, 0)] {
        let odd = product(m, n, k);
        assert_eq!(choose(Form::Nt, odd, Precision::Tf32, &H100).tile, Tile::Guarded, "{odd:?}");
        assert!(is_guarded(Form::Nt, odd, Precision::Tf32));
        assert_ne!(choose(Form::Nt, odd, Precision::F32, &H100).tile, Tile::Guarded, "{odd:?}");
    }
}

#[test]
fn rows_of_16_bit_numbers_are_aligned_by_eights() {
    let product = product(64, 64, 36);
    let tile = |precision| choose(Form::Nt, product, precision, &H100).tile;
    assert_eq!(tile(Precision::Tf32), Tile::Small);
    assert_eq!(tile(Precision::Bf16), Tile::Guarded);
}

/// Small batches are split until most multiprocessors have a block.
#[test]
fn small_products_keep_the_device_busy() {
    for machine in MACHINES {
        for precision in PRECISIONS {
            for (form, product) in of_layer(256, 784, 512) {
                let tiling = choose(form, product, precision, &machine);
                let blocks = tiling.tile.count(product) * tiling.splits;
                let case = format!("{machine:?} {precision} {form:?} {tiling:?}");
                assert!(2 * blocks >= machine.multiprocessors, "{case}");
                assert!(blocks <= 3 * machine.multiprocessors, "{case}");
            }
        }
    }
}

/// Of 4096 x 4096 x 4096, nothing is split; on tensor cores that share little memory, tiles are large.
#[test]
fn wide_layers_take_large_tiles_whole() {
    for machine in MACHINES {
        for precision in [Precision::F32, Precision::Bf16] {
            for (form, product) in of_layer(4096, 4096, 4096) {
                let tiling = choose(form, product, precision, &machine);
                assert_eq!(tiling.splits, 1, "{machine:?} {precision} {form:?}");
            }
        }
    }
    let square = product(8192, 8192, 8192);
    assert_eq!(choose(Form::Nt, square, Precision::Bf16, &H100).tile, Tile::Large);
}

/// Between the square tiles lie two that leave fewer multiprocessors idle.
#[test]
fn tiles_between_the_square_ones_are_taken_where_they_balance() {
    for machine in MACHINES {
        let mut found = Vec::new();
        for batch in [256, 1024, 4096] {
            for (inputs, outputs) in [(784, 512), (784, 1024), (1024, 512), (4096, 4096)] {
                for (form, product) in of_layer(batch, inputs, outputs) {
                    found.push(choose(form, product, Precision::F32, &machine).tile);
                }
            }
        }
        let is_between = |tile: &Tile| matches!(tile, Tile::Tall | Tile::Wide);
        assert!(found.iter().any(is_between), "{machine:?}: {found:?}");
    }
}

/// What a layer of 4096 gets at growing batches: parts of `k`, then whole sums in larger tiles.
#[test]
fn choices_follow_the_batch() {
    let choice = |batch| {
        let tiling = choose(Form::Nt, product(batch, 4096, 4096), Precision::Bf16, &H100);
        (tiling.tile, tiling.splits)
    };
    let choices = [64, 256, 1024, 4096].map(choice);
    let large = Tile::Large;
    assert_eq!(choices, [(Tile::Small, 4), (large, 4), (large, 1), (large, 1)]);
}

/// Whatever is preferred, the model does not think it slower than the best by more than it can tell.
#[test]
fn the_choice_is_near_the_least_modelled_time() {
    for machine in MACHINES {
        for precision in PRECISIONS {
            for edge in [64, 128, 320, 768, 1536, 4096] {
                for (form, product) in of_layer(edge, edge, edge) {
                    let chosen = choose(form, product, precision, &machine);
                    let chosen = modelled(chosen, form, product, &machine);
                    for tile in [Tile::Large, Tile::Tall, Tile::Wide, Tile::Small] {
                        for splits in 1..=cost::most_splits(
                            tile.count(product),
                            &[product],
                            precision,
                            &machine,
                        ) {
                            if !tile.fits(form, product, precision) {
                                continue;
                            }
                            let other = Tiling { precision, tile, splits };
                            let other = modelled(other, form, product, &machine);
                            let case = format!("{machine:?} {precision} {form:?} {edge}");
                            assert!(16 * chosen <= 17 * other + 16, "{case}: {tile:?} {splits}");
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn partial_sums_have_room_for_every_part() {
    let tiling = Tiling { precision: Precision::F32, tile: Tile::Tall, splits: 3 };
    assert_eq!(tiling.partials(product(129, 64, 784)), 2 * 3 * 128 * 64);
    let whole = Tiling { splits: 1, ..tiling };
    assert_eq!(whole.partials(product(129, 64, 784)), 0);
}

#[test]
fn every_choice_names_a_kernel() {
    let known = |name: &String| {
        use crate::backend::cuda::image::SOURCES;
        SOURCES.iter().any(|source| source.kernels.contains(&name.as_str()))
    };
    for form in FORMS {
        for precision in PRECISIONS {
            for row in cost::rows(precision) {
                let tiling = Tiling { precision, tile: row.tile, splits: 1 };
                assert!(known(&tiling.kernel(form, "")), "{form:?} {tiling:?}");
                let special = precision != Precision::F32 && tiling.tile != Tile::Guarded;
                if form == Form::Nt && special {
                    assert!(known(&tiling.kernel(form, "_relu_dropout")), "{tiling:?}");
                }
            }
        }
    }
}

#[test]
fn shared_memory_meets_the_bars() {
    let ada = Machine::new(128, 89);
    let shared = |precision, tile, machine| {
        Tiling { precision, tile, splits: 1 }.grid([1, 1], machine).shared
    };
    assert_eq!(shared(Precision::Tf32, Tile::Large, &H100), 64 << 10);
    assert_eq!(shared(Precision::Tf32, Tile::Large, &ada), 48 << 10);
    assert_eq!(shared(Precision::Bf16, Tile::Wide, &H100), 48 << 10);
    assert_eq!(shared(Precision::F32, Tile::Large, &H100), 33_792);
    assert_eq!(shared(Precision::F32, Tile::Tall, &H100), 25_600);
    assert_eq!(shared(Precision::F32, Tile::Small, &H100), 17_408);
}
