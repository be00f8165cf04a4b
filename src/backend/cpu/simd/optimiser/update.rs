// SPDX-License-Identifier: MIT OR Apache-2.0
//! Optimiser updates: PyTorch's rules with every scalar worked out beforehand.

mod adam;

use super::average::{Average, AverageTarget};
use super::base::{dispatch, for_each_vector, load, store, store_as, Isa, Kernel, Vector, LINE};
use super::{split_by, Pool, Stores};

/// How the next parameters follow from gradient and state.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum UpdateRule {
    /// `torch.optim.SGD`.
    Sgd {
        /// Learning rate.
        learning_rate: f32,
        /// Momentum; with 0 the state needs no moment.
        momentum: f32,
        /// Dampening of the gradient in the momentum.
        dampening: f32,
        /// Whether the step looks ahead along the momentum.
        nesterov: Nesterov,
        /// L2 penalty, added to the gradient; with 0 the value does not count.
        weight_decay: f32,
        /// Whether the momentum starts here.
        step: Step,
    },
    /// `torch.optim.Adam` and `AdamW`.
    Adam {
        /// Decays of the first and second moment: beta1 and beta2.
        decays: [f32; 2],
        /// Shares of the gradient and its square in them: 1 - beta, rounded once, as PyTorch's is.
        shares: [f32; 2],
        /// Learning rate / (1 - beta1^t).
        step_size: f32,
        /// 1 / sqrt(1 - beta2^t).
        inv_sqrt_bias2: f32,
        /// Added to the denominator after bias correction.
        eps: f32,
        /// Weight decay.
        decay: Decay,
    },
}

/// SGD's kind of momentum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesterov {
    /// The step is the momentum.
    Off,
    /// The step is gradient + momentum * buffer.
    On,
}

/// Which step of a run this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The momentum becomes the gradient, without dampening.
    First,
    /// The momentum is decayed and added to.
    Later,
}

/// Adam's kind of weight decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Decay {
    /// Adam: this times the parameter is added to the gradient.
    Coupled(f32),
    /// AdamW: parameters are multiplied by this (1 - learning rate * decay) first.
    Decoupled(f32),
}

/// What an update changes: slices of one length.
#[derive(Debug)]
pub(crate) struct Updated<'a> {
    /// The parameters.
    pub(crate) values: &'a mut [f32],
    /// The optimiser's state.
    pub(crate) moments: Moments<'a>,
    /// The parameters' moving averages, if they are kept.
    pub(crate) average: Option<Average<'a>>,
}

/// The state that a rule keeps beside each parameter.
#[derive(Debug)]
pub(crate) enum Moments<'a> {
    /// Plain SGD.
    None,
    /// SGD's momentum buffer.
    One(&'a mut [f32]),
    /// Adam's first and second moment.
    Two(&'a mut [f32], &'a mut [f32]),
}

/// Updates parameters with `gradient * scale`, on all threads of the pool.
///
/// # Panics
/// If lengths differ, or the state has fewer moments than the rule needs.
pub(crate) fn update(
    pool: &Pool,
    isa: Isa,
    rule: &UpdateRule,
    gradient: &[f32],
    scale: f32,
    updated: Updated<'_>,
) {
    let count = gradient.len();
    let target = Target::new(rule, scale, updated, count);
    pool.run(&|index| {
        let range = split_by(64, count, pool.threads(), index);
        let (target, gradient) = (target.at(range.start), &gradient[range]);
        // SAFETY: the threads' ranges are disjoint and within the slices that `new` checked.
        unsafe { dispatch(isa, Apply { target, gradient }) }
    });
}

/// A checked update, from some element on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    rule: UpdateRule,
    scale: f32,
    values: *mut f32,
    /// Null where the rule keeps no such moment.
    first: *mut f32,
    second: *mut f32,
    average: AverageTarget,
}

// SAFETY: the pointers come from exclusively borrowed slices, and every user of a `Target` hands
// its threads disjoint ranges of them.
unsafe impl Sync for Target {}
// SAFETY: as above.
unsafe impl Send for Target {}

impl Target {
    /// # Panics
    /// If lengths are not `count`, or the state has fewer moments than the rule needs.
    pub(crate) fn new(rule: &UpdateRule, scale: f32, updated: Updated<'_>, count: usize) -> Self {
        let of = |slice: &mut [f32]| {
            assert_eq!(slice.len(), count, "parameters, moments and gradient differ in length");
            slice.as_mut_ptr()
        };
        let null = std::ptr::null_mut();
        let (first, second) = match updated.moments {
            Moments::None => (null, null),
            Moments::One(first) => (of(first), null),
            Moments::Two(first, second) => (of(first), of(second)),
        };
        let missing = match *rule {
            UpdateRule::Sgd { momentum, .. } => momentum != 0.0 && first.is_null(),
            UpdateRule::Adam { .. } => second.is_null(),
        };
        assert!(!missing, "the rule needs more moments than the state has");
        let average = AverageTarget::new(updated.average, count);
        Target { rule: *rule, scale, values: of(updated.values), first, second, average }
    }

    /// The same update from `offset` elements further on.
    pub(crate) fn at(&self, offset: usize) -> Self {
        let moved = |pointer: *mut f32| {
            if pointer.is_null() {
                pointer
            } else {
                pointer.wrapping_add(offset)
            }
        };
        Target {
            values: moved(self.values),
            first: moved(self.first),
            second: moved(self.second),
            average: self.average.at(offset),
            ..*self
        }
    }

    /// Asks for the cache lines of `count` elements from `offset` on.
    #[inline(always)]
    pub(crate) fn prefetch<V: Vector>(&self, offset: usize, count: usize) {
        for pointer in [self.values, self.first, self.second, self.average.averages] {
            if !pointer.is_null() {
                for line in (0..count).step_by(LINE) {
                    V::prefetch(pointer.wrapping_add(offset + line));
                }
            }
        }
    }

    /// Updates the first `gradient.len()` elements. Parameters are stored as is asked for, moments and
    /// averages near: nobody else reads them. Ends with [`Vector::fence`].
    ///
    /// # Safety
    /// That many elements are in bounds and no other thread uses them.
    #[inline(always)]
    pub(crate) unsafe fn apply<V: Vector>(&self, gradient: &[f32], stores: Stores) {
        // SAFETY: the caller's; each rule's moments are there by `new`.
        unsafe {
            match self.rule {
                UpdateRule::Sgd { .. } => self.sgd::<V>(gradient, stores),
                UpdateRule::Adam { .. } => self.adam::<V>(gradient, stores),
            }
        }
    }

    #[inline(always)]
    unsafe fn sgd<V: Vector>(&self, gradient: &[f32], stores: Stores) {
        let UpdateRule::Sgd { momentum, weight_decay, .. } = self.rule else { return };
        let decay = V::splat(weight_decay);
        let decayed = |value: V, slope: V| decay.mul_add(value, slope);
        // SAFETY: the caller's.
        unsafe {
            // Without decay the value does not count: 0 times an infinite one would be NaN.
            match (momentum == 0.0, weight_decay == 0.0) {
                (true, true) => self.plain::<V>(gradient, stores, |_, slope| slope),
                (true, false) => self.plain::<V>(gradient, stores, decayed),
                (false, true) => self.momentum::<V>(gradient, stores, |_, slope| slope),
                (false, false) => self.momentum::<V>(gradient, stores, decayed),
            }
        }
    }

    /// SGD without momentum, given how value and gradient make the slope.
    ///
    /// # Safety
    /// As [`Target::apply`].
    #[inline(always)]
    unsafe fn plain<V: Vector>(&self, gradient: &[f32], stores: Stores, slope: impl Fn(V, V) -> V) {
        let UpdateRule::Sgd { learning_rate, .. } = self.rule else { return };
        let rate = V::splat(-learning_rate);
        for_each_vector!(V, gradient.len(), |at, lanes| {
            // SAFETY: the caller's.
            unsafe {
                let value = load::<V>(self.values.add(at), lanes);
                let step = slope(value, self.scaled(gradient, at, lanes));
                self.put(stores, rate.mul_add(step, value), at, lanes);
            }
        });
    }

    /// SGD with momentum, given how value and gradient make the slope.
    ///
    /// # Safety
    /// As [`Target::apply`].
    #[inline(always)]
    unsafe fn momentum<V: Vector>(
        &self,
        gradient: &[f32],
        stores: Stores,
        slope: impl Fn(V, V) -> V,
    ) {
        let UpdateRule::Sgd { learning_rate, momentum, dampening, nesterov, step, .. } = self.rule
        else {
            return;
        };
        let rate = V::splat(-learning_rate);
        let (keep, add) = match step {
            Step::First => (V::splat(0.0), V::splat(1.0)),
            Step::Later => (V::splat(momentum), V::splat(1.0 - dampening)),
        };
        let ahead = V::splat(momentum);
        for_each_vector!(V, gradient.len(), |at, lanes| {
            // SAFETY: the caller's; there is a first moment.
            unsafe {
                let value = load::<V>(self.values.add(at), lanes);
                let slope = slope(value, self.scaled(gradient, at, lanes));
                // Selected, not multiplied by 0: what the buffer held before does not matter.
                let buffer = match step {
                    Step::First => slope,
                    Step::Later => {
                        let old = load::<V>(self.first.add(at), lanes);
                        keep.mul_add(old, add.mul(slope))
                    }
                };
                store(buffer, self.first.add(at), lanes);
                let step = match nesterov {
                    Nesterov::Off => buffer,
                    Nesterov::On => ahead.mul_add(buffer, slope),
                };
                self.put(stores, rate.mul_add(step, value), at, lanes);
            }
        });
    }

    /// Stores parameters as is asked for; their averages follow.
    ///
    /// # Safety
    /// As [`Target::apply`].
    #[inline(always)]
    unsafe fn put<V: Vector>(&self, stores: Stores, value: V, at: usize, lanes: usize) {
        // SAFETY: the caller's.
        unsafe {
            store_as(stores, value, self.values.add(at), lanes);
            self.average.follow(at, value, lanes);
        }
    }

    /// The gradient times the scale.
    #[inline(always)]
    unsafe fn scaled<V: Vector>(&self, gradient: &[f32], at: usize, lanes: usize) -> V {
        // SAFETY: the caller's: `lanes` elements from `at` on are in bounds.
        unsafe { load::<V>(gradient.as_ptr().add(at), lanes).mul(V::splat(self.scale)) }
    }
}

/// One thread's part of an update.
struct Apply<'a> {
    target: Target,
    gradient: &'a [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        // SAFETY: the caller's.
        unsafe { self.target.apply::<V>(self.gradient, Stores::Cached) }
    }
}
