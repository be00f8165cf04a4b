// SPDX-License-Identifier: MIT OR Apache-2.0
//! What was fastest where somebody measured. It comes before the model.

use super::{Extents, Form, Tile, Tiling};
use crate::backend::cuda::geometry::Machine;
use crate::Precision;

/// A tiling that was fastest for products of a class on a device.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    architecture: u32,
    precision: Precision,
    form: Form,
    /// Powers of two below which the extents lie: products of [129..=256, 257..=512, 513..=1024] are
    /// of the class [8, 9, 10].
    class: [u32; 3],
    tile: Tile,
    splits: usize,
}

/// Rows of `cargo bench --bench cuda` that beat the model's choice, each with the device, the driver and the
/// commit that it was measured with. There are none yet: no device was at hand.
pub(super) const MEASURED: &[Measured] = &[];

/// What a table says of products, all of the same class, if it takes them.
pub(super) fn recall(
    table: &[Measured],
    form: Form,
    products: &[Extents],
    precision: Precision,
    machine: &Machine,
) -> Option<Tiling> {
    let class = class(*products.first()?);
    if products.iter().any(|&product| self::class(product) != class) {
        return None;
    }
    let known = table.iter().find(|row| {
        let of_device = (row.architecture, row.precision) == (machine.architecture, precision);
        of_device && (row.form, row.class) == (form, class)
    })?;
    let fits = products.iter().all(|&product| known.tile.fits(form, product, precision));
    fits.then_some(Tiling { precision, tile: known.tile, splits: known.splits })
}

fn class(product: Extents) -> [u32; 3] {
    [product.m, product.n, product.k].map(|extent| extent.next_power_of_two().trailing_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;

    const H100: Machine = Machine::new(132, 90);
    const FORWARD: Measured = Measured {
        architecture: 90,
        precision: Precision::Bf16,
        form: Form::Nt,
        class: [8, 9, 10],
        tile: Tile::Wide,
        splits: 5,
    };

    #[test]
    fn a_measured_row_comes_before_the_model() {
        let product = |m, n, k| Extents { m, n, k };
        let recall = |products: &[Extents], machine| {
            recall(&[FORWARD], Form::Nt, products, Precision::Bf16, machine)
        };
        let fc1 = product(256, 512, 784);
        let found = recall(&[fc1], &H100).map(|tiling| (tiling.tile, tiling.splits));
        assert_eq!(found, Some((Tile::Wide, 5)));
        assert_eq!(recall(&[fc1, product(200, 320, 1024)], &H100).map(|t| t.splits), Some(5));
        assert_eq!(recall(&[fc1, product(64, 512, 784)], &H100), None, "of two classes");
        assert_eq!(recall(&[product(256, 512, 786)], &H100), None, "it does not fit");
        assert_eq!(recall(&[product(257, 512, 784)], &H100), None, "of another class");
        assert_eq!(recall(&[fc1], &Machine { architecture: 80, ..H100 }), None);
        assert_eq!(recall(&[], &H100), None);
    }
}
