//! The primitives of packing on ciphertexts.

use crate::folded::{Convolution, WeightRows};
use crate::packing::Fold;
use crate::{Arithmetic, Ciphertext, Error, Evaluator, Parameters};
use ring::{RnsPoly, limb};

impl Fold for Evaluator {
    type Folded = Ciphertext;

    fn ring_parameters(&self) -> &Parameters {
        self.parameters()
    }
    fn plus(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.add(x, y)
    }
    fn minus(&self, x: &Ciphertext, y: &Ciphertext) -> Result<Ciphertext, Error> {
        self.sub(x, y)
    }
    fn shifted(&self, x: &Ciphertext, exponent: i64) -> Result<Ciphertext, Error> {
        let factor = self.context.monomial(exponent);
        let polys = x.polys.iter().map(|c| factor.times(c)).collect();
        Ok(Ciphertext { polys, ..*x })
    }
    fn automorphism(&self, x: &Ciphertext, g: u64) -> Result<Ciphertext, Error> {
        Ok(self.rotate_by(x, &[g])?.swap_remove(0))
    }
    fn divided(&self, x: &Ciphertext, m: usize) -> Result<Ciphertext, Error> {
        let ring = self.parameters().ring();
        let by = |c: &RnsPoly<ring::Ntt>| {
            RnsPoly::from_limbs(ring, c.indices(), |k, out| {
                let q = c.modulus(k);
                let inverse = q.inv(q.reduce(m as u64));
                limb::mul_scalar_to(q, out, c.limb(k), inverse);
            })
        };
        let polys = x.polys.iter().map(by).collect();
        Ok(Ciphertext { polys, ..*x })
    }
    fn weigh(
        &self,
        xs: &[Ciphertext],
        layer: &Convolution,
        outputs: std::ops::Range<usize>,
        weights: &(impl WeightRows + ?Sized),
        scale: f64,
    ) -> Result<Vec<Ciphertext>, Error> {
        self.context.weigh(xs, layer, outputs, weights, scale)
    }
}
