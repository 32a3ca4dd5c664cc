//! Typed RNS polynomials: the form, coefficients or NTT, is part of the type.

use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;
use zeroize::Zeroize;

use crate::buffer::AlignedVec;
use crate::{Modulus, NttTable, Ring, limb};

/// Marker: residues of coefficients, in natural order.
#[derive(Clone, Copy, Debug)]
pub struct Coeff;

/// Marker: residues of evaluations, in the order of [`crate::ntt`].
#[derive(Clone, Copy, Debug)]
pub struct Ntt;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Coeff {}
    impl Sealed for super::Ntt {}
}

/// The form of a polynomial: [`Coeff`] or [`Ntt`].
pub trait Form: sealed::Sealed + Clone + Send + Sync + 'static {}
impl Form for Coeff {}
impl Form for Ntt {}

/// Residues of one polynomial modulo the moduli `indices` of a [`Ring`], limb-major, 64-byte aligned, canonical.
///
/// Operations across limbs run in parallel, one limb per task. A clone shares its limbs until one of both is written. Memory
/// comes from [`crate::buffer`]; a polynomial that holds a secret must be zeroized by its owner, before any clone is made.
#[derive(Clone)]
pub struct RnsPoly<F: Form> {
    ring: Ring,
    indices: Arc<[usize]>,
    data: Vec<Arc<AlignedVec>>,
    form: PhantomData<F>,
}

impl<F: Form> RnsPoly<F> {
    /// The zero polynomial.
    ///
    /// # Panics
    /// If an index is not below the number of moduli of the ring.
    pub fn zero(ring: &Ring, indices: impl Into<Arc<[usize]>>) -> Self {
        Self::from_limbs(ring, indices, |_, limb| limb.fill(0))
    }

    /// Lets `fill(k, limb)` write limb k, modulo ring modulus `indices[k]`, all limbs in parallel.
    ///
    /// The closure must write the whole limb with canonical residues: what it finds there is unspecified (old public residues).
    ///
    /// # Panics
    /// If an index is not below the number of moduli of the ring.
    pub fn from_limbs(
        ring: &Ring,
        indices: impl Into<Arc<[usize]>>,
        fill: impl Fn(usize, &mut [u64]) + Sync,
    ) -> Self {
        let indices = checked(ring, indices.into());
        let limbs = (0..indices.len()).into_par_iter().map(|k| {
            let mut limb = AlignedVec::dirty(ring.n());
            fill(k, &mut limb);
            debug_assert!(
                limb.iter().all(|&x| x < ring.modulus(indices[k]).value()),
                "limb {k} is canonical"
            );
            limb
        });
        let limbs = limbs.collect();
        Self::from_parts(ring, indices, limbs)
    }

    /// From canonical limbs.
    ///
    /// # Panics
    /// If an index is not below the number of moduli of the ring, or there is not one limb of N words for each index.
    pub fn from_parts(
        ring: &Ring,
        indices: impl Into<Arc<[usize]>>,
        limbs: Vec<AlignedVec>,
    ) -> Self {
        let indices = checked(ring, indices.into());
        assert!(
            limbs.len() == indices.len() && limbs.iter().all(|limb| limb.len() == ring.n()),
            "one limb of N words per modulus"
        );
        RnsPoly {
            ring: ring.clone(),
            indices,
            data: limbs.into_iter().map(Arc::new).collect(),
            form: PhantomData,
        }
    }

    /// The ring.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// Which moduli of the ring the limbs belong to.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The number of limbs.
    pub fn limbs(&self) -> usize {
        self.indices.len()
    }

    /// The modulus of limb k.
    pub fn modulus(&self, k: usize) -> &Modulus {
        self.ring.modulus(self.indices[k])
    }

    /// Limb k.
    pub fn limb(&self, k: usize) -> &[u64] {
        &self.data[k]
    }

    /// Limb k, to be left canonical.
    pub fn limb_mut(&mut self, k: usize) -> &mut [u64] {
        &mut Arc::make_mut(&mut self.data[k])[..]
    }

    /// All limbs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.data.iter().map(|limb| &limb[..])
    }

    /// All limbs in order, to be left canonical.
    pub fn limbs_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u64]> {
        self.data
            .iter_mut()
            .map(|limb| &mut Arc::make_mut(limb)[..])
    }

    /// The limbs at the positions `at`, shared with this polynomial.
    ///
    /// # Panics
    /// If there is no such limb.
    #[must_use]
    pub fn select(&self, at: &[usize]) -> Self {
        RnsPoly {
            ring: self.ring.clone(),
            indices: at.iter().map(|&k| self.indices[k]).collect(),
            data: at.iter().map(|&k| self.data[k].clone()).collect(),
            form: PhantomData,
        }
    }

    /// self += other.
    ///
    /// # Panics
    /// If `other` does not have the same moduli.
    pub fn add_assign(&mut self, other: &Self) {
        self.zip_limbs(other, limb::add);
    }

    /// Applies `f(k, modulus, limb)` to every limb in parallel; it must leave canonical residues.
    pub fn each_limb(&mut self, f: impl Fn(usize, &Modulus, &mut [u64]) + Sync) {
        let (ring, indices) = (&self.ring, &self.indices);
        let limbs = self.data.par_iter_mut().enumerate();
        limbs.for_each(|(k, a)| f(k, ring.modulus(indices[k]), &mut Arc::make_mut(a)[..]));
    }

    fn each_table(&mut self, f: impl Fn(&NttTable, &mut [u64]) + Sync) {
        let (ring, indices) = (self.ring.clone(), self.indices.clone());
        self.each_limb(|k, _, a| f(ring.ntt(indices[k]), a));
    }

    fn zip_limbs(&mut self, other: &Self, f: impl Fn(&Modulus, &mut [u64], &[u64]) + Sync) {
        assert!(
            self.ring.same(&other.ring) && self.indices == other.indices,
            "polynomials modulo different moduli"
        );
        self.each_limb(|k, q, a| f(q, a, other.limb(k)));
    }

    /// The same polynomial as one of another ring of the same degree, whose moduli `indices` are this one's in order: no limb is copied.
    ///
    /// # Panics
    /// If the degree or a modulus is another.
    #[must_use]
    pub fn within(&self, ring: &Ring, indices: &[usize]) -> Self {
        let indices = checked(ring, indices.into());
        assert!(
            ring.n() == self.ring.n()
                && indices.len() == self.limbs()
                && (0..self.limbs()).all(|k| self.modulus(k) == ring.modulus(indices[k])),
            "the same moduli in the same order"
        );
        RnsPoly {
            ring: ring.clone(),
            indices,
            data: self.data.clone(),
            form: PhantomData,
        }
    }

    fn retyped<G: Form>(self) -> RnsPoly<G> {
        RnsPoly {
            ring: self.ring,
            indices: self.indices,
            data: self.data,
            form: PhantomData,
        }
    }
}

impl RnsPoly<Coeff> {
    /// To NTT form in place. Cost: one NTT per limb.
    pub fn into_ntt(mut self) -> RnsPoly<Ntt> {
        self.each_table(NttTable::forward);
        self.retyped()
    }
}

impl RnsPoly<Ntt> {
    /// To coefficient form in place. Cost: one NTT per limb.
    pub fn into_coeff(mut self) -> RnsPoly<Coeff> {
        self.each_table(NttTable::inverse);
        self.retyped()
    }

    /// The same polynomial in coefficient form. Cost: one NTT per limb.
    pub fn to_coeff(&self) -> RnsPoly<Coeff> {
        RnsPoly::from_limbs(&self.ring, self.indices.clone(), |k, out| {
            let table = self.ring.ntt(self.indices[k]);
            table.inverse_to(out, self.limb(k));
        })
    }

    /// self *= other.
    ///
    /// # Panics
    /// If `other` does not have the same moduli.
    pub fn mul_assign(&mut self, other: &Self) {
        self.zip_limbs(other, limb::mul);
    }

    /// The image under the automorphism whose permutation is given, see [`crate::automorphism()`].
    ///
    /// # Panics
    /// Unless the permutation has N entries.
    pub fn automorphism(&self, perm: &[u32]) -> Self {
        Self::from_limbs(&self.ring, self.indices.clone(), |k, out| {
            limb::permute(out, self.limb(k), perm)
        })
    }
}

fn checked(ring: &Ring, indices: Arc<[usize]>) -> Arc<[usize]> {
    assert!(
        indices.iter().all(|&i| i < ring.moduli().len()),
        "the ring has {} moduli",
        ring.moduli().len()
    );
    indices
}

impl<F: Form> PartialEq for RnsPoly<F> {
    fn eq(&self, other: &Self) -> bool {
        self.ring.same(&other.ring) && self.indices == other.indices && self.iter().eq(other.iter())
    }
}
impl<F: Form> Eq for RnsPoly<F> {}

/// Shows the moduli only: a polynomial may be a secret.
impl<F: Form> std::fmt::Debug for RnsPoly<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let form = std::any::type_name::<F>()
            .rsplit("::")
            .next()
            .unwrap_or_default();
        f.debug_struct("RnsPoly")
            .field("form", &form)
            .field("indices", &self.indices)
            .finish_non_exhaustive()
    }
}

impl<F: Form> Zeroize for RnsPoly<F> {
    /// Clears every limb that is not shared with a clone.
    fn zeroize(&mut self) {
        for limb in self.data.iter_mut().filter_map(Arc::get_mut) {
            limb.zeroize();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{automorphism, ntt_primes};

    fn ring() -> Ring {
        Ring::new(5, &ntt_primes(5, 1 << 46, 4, &[]).expect("primes")).expect("ring")
    }

    fn from_i64(ring: &Ring, indices: Vec<usize>, x: &[i64]) -> RnsPoly<Coeff> {
        RnsPoly::from_limbs(ring, indices.clone(), |k, out| {
            limb::from_i64(ring.modulus(indices[k]), out, x)
        })
    }

    fn sample(ring: &Ring, seed: i64) -> RnsPoly<Coeff> {
        let x: Vec<i64> = (0..ring.n() as i64)
            .map(|i| (i * 7919 + seed) % 1000 - 500)
            .collect();
        from_i64(ring, vec![0, 2, 3], &x)
    }

    #[test]
    fn ring_laws_hold() {
        let r = ring();
        let (a, b, c) = (
            sample(&r, 1).into_ntt(),
            sample(&r, 2).into_ntt(),
            sample(&r, 3).into_ntt(),
        );
        let mut left = b.clone();
        left.add_assign(&c);
        left.mul_assign(&a);
        let (mut ab, mut ac) = (a.clone(), a.clone());
        ab.mul_assign(&b);
        ac.mul_assign(&c);
        ab.add_assign(&ac);
        assert_eq!(left, ab);
        ab.zip_limbs(&left, limb::sub);
        assert_eq!(ab, RnsPoly::zero(&r, vec![0, 2, 3]));
        let mut minus = a.clone();
        minus.each_limb(|_, q, a| limb::neg(q, a));
        minus.add_assign(&a);
        assert_eq!(minus, ab);
        let mut twice = a.clone();
        twice.each_limb(|_, q, limb| limb::mul_scalar(q, limb, 2));
        twice.zip_limbs(&a, limb::sub);
        assert_eq!(twice, a);
    }

    #[test]
    fn forms_convert_and_limbs_drop() {
        let r = ring();
        let a = sample(&r, 4);
        let mut back = a.clone().into_ntt().into_coeff();
        assert_eq!(a, back);
        assert_eq!(a, a.clone().into_ntt().to_coeff());
        assert!(
            back.iter()
                .all(|limb| (limb.as_ptr() as usize).is_multiple_of(64))
        );
        back = back.select(&[0, 1]);
        assert_eq!((back.indices(), back.limbs()), (&[0, 2][..], 2));
        assert_eq!(back.limb(1), a.limb(1));
        assert_eq!(
            format!("{a:?}"),
            r#"RnsPoly { form: "Coeff", indices: [0, 2, 3], .. }"#
        );
        back.zeroize();
        assert_eq!(back, RnsPoly::zero(&r, vec![0, 2]));
    }

    #[test]
    fn automorphisms_compose() {
        let r = ring();
        let a = sample(&r, 5).into_ntt();
        let twice = a
            .automorphism(&automorphism(5, 5))
            .automorphism(&automorphism(5, 13));
        assert_eq!(twice, a.automorphism(&automorphism(5, 65 % 64)));
        let mut x: Vec<i64> = vec![0; 32];
        x[1] = 1;
        let image = from_i64(&r, vec![1], &x)
            .into_ntt()
            .automorphism(&automorphism(5, 63))
            .into_coeff();
        x[1] = 0;
        x[31] = -1;
        assert_eq!(image, from_i64(&r, vec![1], &x));
    }

    #[test]
    #[should_panic(expected = "different moduli")]
    fn unlike_polynomials_do_not_add() {
        let r = ring();
        RnsPoly::<Ntt>::zero(&r, vec![0, 1]).add_assign(&RnsPoly::zero(&r, vec![0, 2]));
    }
}
