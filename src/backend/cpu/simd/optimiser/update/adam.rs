// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loop of Adam and AdamW.

use super::super::base::{for_each_vector, load, store, Vector};
use super::{Decay, Stores, Target, UpdateRule};

impl Target {
    /// # Safety
    /// As [`Target::apply`].
    #[inline(always)]
    pub(super) unsafe fn adam<V: Vector>(&self, gradient: &[f32], stores: Stores) {
        let UpdateRule::Adam { decay, .. } = self.rule else { return };
        let scale = V::splat(self.scale);
        // SAFETY: the caller's.
        unsafe {
            match decay {
                // Multiplying by 1 and adding 0 would cost a training step 1 % (Zen 4).
                Decay::Coupled(0.0) if self.scale == 1.0 => {
                    self.adam_with::<V>(gradient, stores, Plain);
                }
                Decay::Coupled(0.0) => self.adam_with::<V>(gradient, stores, Scaled { scale }),
                Decay::Coupled(decay) => {
                    let decay = V::splat(decay);
                    self.adam_with::<V>(gradient, stores, Coupled { scale, decay });
                }
                Decay::Decoupled(factor) => {
                    let factor = V::splat(factor);
                    self.adam_with::<V>(gradient, stores, Decoupled { scale, factor });
                }
            }
        }
    }

    /// Adam with some weight decay.
    ///
    /// # Safety
    /// As [`Target::apply`].
    #[inline(always)]
    unsafe fn adam_with<V: Vector>(
        &self,
        gradient: &[f32],
        stores: Stores,
        decay: impl AdamDecay<V>,
    ) {
        let UpdateRule::Adam { decays, shares, step_size, inv_sqrt_bias2, eps, .. } = self.rule
        else {
            return;
        };
        let (keep1, keep2) = (V::splat(decays[0]), V::splat(decays[1]));
        let (add1, add2) = (V::splat(shares[0]), V::splat(shares[1]));
        let (size, correction, eps) =
            (V::splat(-step_size), V::splat(inv_sqrt_bias2), V::splat(eps));
        for_each_vector!(V, gradient.len(), |at, lanes| {
            // SAFETY: the caller's; there are two moments.
            unsafe {
                let value = load::<V>(self.values.add(at), lanes);
                let slope = decay.slope(value, load::<V>(gradient.as_ptr().add(at), lanes));
                let first = load::<V>(self.first.add(at), lanes);
                let second = load::<V>(self.second.add(at), lanes);
                let first = keep1.mul_add(first, add1.mul(slope));
                let second = keep2.mul_add(second, add2.mul(slope.mul(slope)));
                store(first, self.first.add(at), lanes);
                store(second, self.second.add(at), lanes);
                let denominator = second.sqrt().mul_add(correction, eps);
                let value = size.mul_add(first.div(denominator), decay.kept(value));
                self.put(stores, value, at, lanes);
            }
        });
    }
}

/// How Adam decays weights. Not closures: those might not become part of the loop, and would then be
/// compiled without its instruction set.
trait AdamDecay<V: Vector> {
    /// The slope that value and gradient make.
    fn slope(&self, value: V, gradient: V) -> V;

    /// What the decay leaves of the value.
    #[inline(always)]
    fn kept(&self, value: V) -> V {
        value
    }
}

struct Plain;

struct Scaled<V> {
    scale: V,
}

struct Coupled<V> {
    scale: V,
    decay: V,
}

struct Decoupled<V> {
    scale: V,
    factor: V,
}

impl<V: Vector> AdamDecay<V> for Plain {
    #[inline(always)]
    fn slope(&self, _: V, gradient: V) -> V {
        gradient
    }
}

impl<V: Vector> AdamDecay<V> for Scaled<V> {
    #[inline(always)]
    fn slope(&self, _: V, gradient: V) -> V {
        gradient.mul(self.scale)
    }
}

impl<V: Vector> AdamDecay<V> for Coupled<V> {
    #[inline(always)]
    fn slope(&self, value: V, gradient: V) -> V {
        self.decay.mul_add(value, gradient.mul(self.scale))
    }
}

impl<V: Vector> AdamDecay<V> for Decoupled<V> {
    #[inline(always)]
    fn slope(&self, _: V, gradient: V) -> V {
        gradient.mul(self.scale)
    }

    #[inline(always)]
    fn kept(&self, value: V) -> V {
        value.mul(self.factor)
    }
}
