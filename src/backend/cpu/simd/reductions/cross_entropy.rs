// SPDX-License-Identifier: MIT OR Apache-2.0
//! Softmax and cross entropy with the gradient of the logits in the same visit.

use super::base::{dispatch, for_each_vector, load, store};
use super::base::{Isa, Kernel, LongSum, SharedSlice, Vector};
use super::softmax::{exponentials, largest};
use super::{split, Pool};

/// PyTorch's options of the loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct CrossEntropy<'a> {
    /// Rows with this target count nothing.
    pub(crate) ignore_index: i32,
    /// How much of the target is spread over all classes, in [0, 1].
    pub(crate) label_smoothing: f32,
    /// A weight per class.
    pub(crate) class_weights: Option<&'a [f32]>,
}

impl CrossEntropy<'_> {
    fn weight(&self, class: usize) -> f32 {
        self.class_weights.map_or(1.0, |weights| weights[class])
    }

    /// The sum of the weights of all classes. There may be thousands.
    fn all_weights(&self, classes: usize) -> f64 {
        match self.class_weights {
            Some(weights) => weights.iter().map(|&weight| f64::from(weight)).sum(),
            None => classes as f64,
        }
    }
}

/// What the mean divides by: the weights of all targets that are not ignored, in order.
pub(crate) fn target_weight(loss: &CrossEntropy<'_>, classes: usize, targets: &[i32]) -> f64 {
    let counted = targets.iter().filter(|&&target| target != loss.ignore_index);
    let class = |target: &i32| usize::try_from(*target).ok().filter(|&class| class < classes);
    counted.filter_map(class).map(|class| f64::from(loss.weight(class))).sum()
}

/// The loss of each row of `[rows, classes]` logits, undivided, and the gradient of
/// `scale * their sum`. Ignored rows have loss and gradient 0; a target that is no class gives NaN.
///
/// # Panics
/// If lengths do not agree.
#[allow(clippy::too_many_arguments)]
pub(crate) fn cross_entropy(
    pool: &Pool,
    isa: Isa,
    loss: &CrossEntropy<'_>,
    classes: usize,
    logits: &[f32],
    targets: &[i32],
    losses: &mut [f32],
    gradient: Option<(&mut [f32], f32)>,
) {
    assert_eq!((targets.len() * classes, targets.len()), (logits.len(), losses.len()), "rows");
    assert!(loss.class_weights.is_none_or(|weights| weights.len() == classes), "class weights");
    let all_weights = loss.all_weights(classes);
    let losses = SharedSlice::new(losses);
    let gradient = gradient.map(|(gradient, scale)| {
        assert_eq!(gradient.len(), logits.len(), "gradient of the logits");
        (SharedSlice::new(gradient), scale)
    });
    pool.run(&|index| {
        let rows = split(targets.len(), pool.threads(), index);
        let range = rows.start * classes..rows.end * classes;
        // SAFETY: the threads' rows are disjoint.
        let losses = unsafe { losses.part(rows.clone()) };
        let gradient = gradient.map(|(gradient, scale)| {
            // SAFETY: as above.
            (unsafe { gradient.part(range.clone()) }, scale)
        });
        let (logits, targets) = (&logits[range.clone()], &targets[rows]);
        let rows = Rows { loss: *loss, all_weights, classes, logits, targets, losses, gradient };
        // SAFETY: the kernel uses slices.
        unsafe { dispatch(isa, rows) }
    });
}

struct Rows<'a> {
    loss: CrossEntropy<'a>,
    all_weights: f64,
    classes: usize,
    logits: &'a [f32],
    targets: &'a [i32],
    losses: &'a mut [f32],
    gradient: Option<(&'a mut [f32], f32)>,
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let Rows { loss, all_weights, classes, logits, targets, losses, mut gradient } = self;
        let mut spare = vec![0.0; if gradient.is_some() { 0 } else { classes }];
        for (index, &target) in targets.iter().enumerate() {
            let row = index * classes..(index + 1) * classes;
            let (to, scale) = match &mut gradient {
                Some((gradient, scale)) => (&mut gradient[row.clone()], *scale),
                None => (&mut spare[..], 1.0),
            };
            losses[index] = match usize::try_from(target) {
                _ if target == loss.ignore_index => {
                    to.fill(0.0);
                    0.0
                }
                Ok(class) if class < classes => {
                    row_loss::<V>(&loss, all_weights, &logits[row], class, scale, to)
                }
                _ => {
                    to.fill(f32::NAN);
                    f32::NAN
                }
            };
        }
    }
}

/// The loss of one row; writes its gradient times `scale`.
///
/// With t_c the weight on class c, the loss is -sum of t_c * log p_c, and its gradient is
/// (sum of t) * p - t.
#[inline(always)]
fn row_loss<V: Vector>(
    loss: &CrossEntropy<'_>,
    all_weights: f64,
    logits: &[f32],
    class: usize,
    scale: f32,
    gradient: &mut [f32],
) -> f32 {
    let largest = largest::<V>(logits);
    let sum = exponentials::<V>(logits, largest, gradient);
    let log_sum = sum.ln();
    let log_probability = (logits[class] - largest) - log_sum;
    let on_target = (1.0 - loss.label_smoothing) * loss.weight(class);
    let mut total = -on_target * log_probability;
    if loss.label_smoothing == 0.0 {
        scale_and_shift::<V>(gradient, scale * on_target / sum, None);
    } else {
        let spread = loss.label_smoothing / logits.len() as f32;
        let below = f64::from(weighted_shortfall::<V>(loss, logits, largest));
        let smooth = all_weights * f64::from(log_sum) + below;
        total += (f64::from(spread) * smooth) as f32;
        let weights = (f64::from(on_target) + f64::from(spread) * all_weights) as f32;
        scale_and_shift::<V>(gradient, scale * weights / sum, Some((loss, scale * spread)));
    }
    gradient[class] -= scale * on_target;
    total
}

/// How far the logits are below the largest, summed up by the classes' weights.
#[inline(always)]
fn weighted_shortfall<V: Vector>(loss: &CrossEntropy<'_>, logits: &[f32], largest: f32) -> f32 {
    let mut sum = LongSum::<V>::new();
    let whole = logits.len() / V::LANES * V::LANES;
    for at in (0..whole).step_by(V::LANES) {
        // SAFETY: the vector lies in the row, as long as the class weights.
        unsafe {
            let below = V::splat(largest).sub(V::load(logits.as_ptr().add(at)));
            sum.add(match loss.class_weights {
                Some(weights) => below.mul(V::load(weights.as_ptr().add(at))),
                None => below,
            });
        }
    }
    let rest = (whole..logits.len()).map(|class| loss.weight(class) * (largest - logits[class]));
    sum.sum() + rest.sum::<f32>()
}

/// `gradient = gradient * factor`, less `spread` times each class' weight.
#[inline(always)]
fn scale_and_shift<V: Vector>(
    gradient: &mut [f32],
    factor: f32,
    spread: Option<(&CrossEntropy<'_>, f32)>,
) {
    for_each_vector!(V, gradient.len(), |at, lanes| {
        // SAFETY: the vector lies in the row, as long as the class weights.
        unsafe {
            let to = gradient.as_mut_ptr().add(at);
            let mut value = load::<V>(to, lanes).mul(V::splat(factor));
            if let Some((loss, spread)) = spread {
                let weight = match loss.class_weights {
                    Some(weights) => load::<V>(weights.as_ptr().add(at), lanes),
                    None => V::splat(1.0),
                };
                value = value.sub(weight.mul(V::splat(spread)));
            }
            store(value, to, lanes);
        }
    });
}
