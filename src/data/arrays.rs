// SPDX-License-Identifier: MIT OR Apache-2.0
//! Samples of any fields, held in memory.

use std::fmt;
use std::sync::Arc;

use super::{Dataset, Elements, Field, Fields, Pass, Sample};
use crate::{Error, Result};

/// A data set of arrays, one for each input and target, whose first extents count the samples.
///
/// ```
/// use kiln::data::{Array, Arrays, Batch, Pass};
///
/// // Area and age of three houses, and their prices.
/// let measured = Array::f32(vec![71.0, 3.0, 54.0, 40.0, 120.0, 12.0], &[2]);
/// let prices = Array::f32([3.1, 1.9, 4.2], &[1]);
/// let houses = Arrays::new([measured.clone()], [prices])?;
/// let batch = Batch::read(&houses, &[2], Pass::default())?;
/// assert_eq!(batch.inputs[0].values()?, [120.0, 12.0]);
/// assert_eq!(batch.targets[0].values()?, [4.2]);
///
/// // Nothing to compare with.
/// let unknown = Arrays::new([measured], [])?;
/// assert!(Batch::read(&unknown, &[2], Pass::default())?.targets.is_empty());
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Arrays {
    arrays: Vec<Array>,
    fields: Fields,
    len: usize,
}

/// Numbers of all samples, one sample after another.
///
/// Whatever gives a slice is taken as it is: a `Vec`, a `Box<[f32]>` or `Arc<[f32]>`, a static slice,
/// what maps a file. Cloning shares the elements.
///
/// With the `ndarray` crate, take `array.into_raw_vec_and_offset().0` of an array in standard layout
/// and the shape without its first extent.
#[derive(Clone)]
pub struct Array {
    values: Values,
    field: Field,
}

#[derive(Clone)]
enum Values {
    F32(Arc<dyn AsRef<[f32]> + Send + Sync>),
    I32(Arc<dyn AsRef<[i32]> + Send + Sync>),
}

impl Array {
    /// Floating-point numbers, samples of `shape`: `&[]` for one number each.
    pub fn f32(values: impl AsRef<[f32]> + Send + Sync + 'static, shape: &[usize]) -> Self {
        Array { values: Values::F32(Arc::new(values)), field: Field::f32(shape) }
    }

    /// Integers, samples of `shape`.
    pub fn i32(values: impl AsRef<[i32]> + Send + Sync + 'static, shape: &[usize]) -> Self {
        Array { values: Values::I32(Arc::new(values)), field: Field::i32(shape) }
    }

    /// One of so many classes for each sample.
    pub fn labels(values: impl AsRef<[i32]> + Send + Sync + 'static, classes: usize) -> Self {
        Array { values: Values::I32(Arc::new(values)), field: Field::class(classes) }
    }

    fn len(&self) -> usize {
        match &self.values {
            Values::F32(values) => (**values).as_ref().len(),
            Values::I32(values) => (**values).as_ref().len(),
        }
    }
}

impl Arrays {
    /// A data set of these inputs and targets, in this order.
    ///
    /// # Errors
    /// [`Error::Argument`] if there is no input, and for each array that does not hold as many samples
    /// as the first, in whole, and for each label that is no class.
    pub fn new(
        inputs: impl IntoIterator<Item = Array>,
        targets: impl IntoIterator<Item = Array>,
    ) -> Result<Self> {
        let mut arrays: Vec<Array> = inputs.into_iter().collect();
        let inputs = arrays.iter().map(|array| array.field.clone()).collect();
        let first_target = arrays.len();
        arrays.extend(targets);
        let targets = arrays[first_target..].iter().map(|array| array.field.clone()).collect();
        let fields = Fields { inputs, targets };
        fields.check()?;
        let len = arrays[0].len() / arrays[0].field.count();
        let check = |(place, array): (usize, &Array)| check(array, len, &fields.name(place)).err();
        Error::check(arrays.iter().enumerate().filter_map(check).collect())?;
        Ok(Arrays { arrays, fields, len })
    }
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.len
    }

    fn is_fixed(&self) -> bool {
        true
    }

    fn fields(&self) -> Fields {
        self.fields.clone()
    }

    fn read(&self, index: usize, _: Pass, sample: &mut Sample<'_>) -> Result<()> {
        self.check_index(index)?;
        let inputs = self.fields.inputs.len();
        for (place, Array { values, field }) in self.arrays.iter().enumerate() {
            let slot = match place.checked_sub(inputs) {
                None => sample.input(place),
                Some(target) => sample.target(target),
            };
            let each = field.count();
            let range = index * each..(index + 1) * each;
            match values {
                Values::F32(values) => slot.write_f32(within((**values).as_ref(), range)?)?,
                Values::I32(values) => slot.write_i32(within((**values).as_ref(), range)?)?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Array").field("len", &self.len()).field("field", &self.field).finish()
    }
}

fn check(array: &Array, samples: usize, name: &str) -> Result<()> {
    let each = array.field.count();
    if samples.checked_mul(each) != Some(array.len()) {
        let expected = format!("{samples} samples of {each} elements");
        return Err(Error::argument(name, expected, array.len()));
    }
    let (Values::I32(values), Elements::Classes(classes)) = (&array.values, array.field.elements)
    else {
        return Ok(());
    };
    let is_class = |label: i32| usize::try_from(label).is_ok_and(|label| label < classes);
    let values = (**values).as_ref();
    match values.iter().position(|label| !is_class(*label)) {
        None => Ok(()),
        Some(index) => {
            let (what, expected) =
                (format!("{name} of sample {index}"), format!("classes 0..{classes}"));
            Err(Error::argument(what, expected, values[index]))
        }
    }
}

/// The caller's type may give a shorter slice than before.
fn within<T>(values: &[T], range: std::ops::Range<usize>) -> Result<&[T]> {
    let expected = || format!("at least {} elements, as before", range.end);
    let wrong = || Error::argument("array", expected(), values.len());
    values.get(range.clone()).ok_or_else(wrong)
}
