//! Typed RNS polynomials: the form, coefficients or NTT, is part of the type.

use std::marker::PhantomData;
use std::sync::Arc;

use rayon::prelude::*;
use zeroize::Zeroize;

use crate::buffer::AlignedVec;
use crate::{Modulus, Ring, limb};

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
pub trait Form: sealed::Sealed + Send + Sync + 'static {}
impl Form for Coeff {}
impl Form for Ntt {}

/// Residues of one polynomial modulo the moduli `indices` of a [`Ring`], limb-major, 64-byte aligned, canonical.
///
/// Operations across limbs run in parallel, one limb per task. A clone shares its limbs until one of both is written. Memory
/// comes from [`crate::buffer`]; a polynomial that holds a secret must be zeroized by its owner, before any clone is made.
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
        let indices = checked(ring, indices.into());
        let data = indices
            .iter()
            .map(|_| Arc::new(AlignedVec::zeroed(ring.n())))
            .collect();
        RnsPoly {
            ring: ring.clone(),
            indices,
            data,
            form: PhantomData,
        }
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
        let data = (0..indices.len())
            .into_par_iter()
            .map(|k| {
                let mut limb = AlignedVec::dirty(ring.n());
                fill(k, &mut limb);
                debug_assert!(
                    limb.iter().all(|&x| x < ring.modulus(indices[k]).value()),
                    "limb {k} is canonical"
                );
                Arc::new(limb)
            })
            .collect();
        RnsPoly {
            ring: ring.clone(),
            indices,
            data,
            form: PhantomData,
        }
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

    /// All limbs as a parallel iterator, to be left canonical.
    pub(crate) fn par_limbs_mut(&mut self) -> impl IndexedParallelIterator<Item = &mut [u64]> {
        self.data
            .par_iter_mut()
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

    /// self -= other.
    ///
    /// # Panics
    /// If `other` does not have the same moduli.
    pub fn sub_assign(&mut self, other: &Self) {
        self.zip_limbs(other, limb::sub);
    }

    /// self = -self.
    pub fn neg(&mut self) {
        self.each_limb(|_, q, a| limb::neg(q, a));
    }

    /// Multiplies limb k by the residue `s[k]`.
    ///
    /// # Panics
    /// Unless there is one residue per limb.
    pub fn mul_scalar_assign(&mut self, s: &[u64]) {
        assert_eq!(s.len(), self.limbs(), "one residue per limb");
        self.each_limb(|k, q, a| limb::mul_scalar(q, a, s[k]));
    }

    /// Applies `f(k, modulus, limb)` to every limb in parallel; it must leave canonical residues.
    pub fn each_limb(&mut self, f: impl Fn(usize, &Modulus, &mut [u64]) + Sync) {
        let (ring, indices) = (self.ring.clone(), self.indices.clone());
        self.par_limbs_mut()
            .enumerate()
            .for_each(|(k, a)| f(k, ring.modulus(indices[k]), a));
    }

    fn zip_limbs(&mut self, other: &Self, f: impl Fn(&Modulus, &mut [u64], &[u64]) + Sync) {
        self.same_moduli(other);
        self.each_limb(|k, q, a| f(q, a, other.limb(k)));
    }

    fn same_moduli(&self, other: &Self) {
        assert!(
            self.ring.same(&other.ring) && self.indices == other.indices,
            "polynomials modulo different moduli"
        );
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
    /// The polynomial with the given signed coefficients.
    ///
    /// # Panics
    /// Unless there are N coefficients.
    pub fn from_i64(ring: &Ring, indices: impl Into<Arc<[usize]>>, x: &[i64]) -> Self {
        let indices = indices.into();
        Self::from_limbs(ring, indices.clone(), |k, out| {
            limb::from_i64(ring.modulus(indices[k]), out, x)
        })
    }

    /// The polynomial with the given signed coefficients.
    ///
    /// # Panics
    /// Unless there are N coefficients.
    pub fn from_i128(ring: &Ring, indices: impl Into<Arc<[usize]>>, x: &[i128]) -> Self {
        let indices = indices.into();
        Self::from_limbs(ring, indices.clone(), |k, out| {
            limb::from_i128(ring.modulus(indices[k]), out, x)
        })
    }

    /// To NTT form in place. Cost: one NTT per limb.
    ///
    /// # Panics
    /// If `ring` is not the ring of this polynomial.
    pub fn into_ntt(mut self, ring: &Ring) -> RnsPoly<Ntt> {
        assert!(self.ring.same(ring), "a polynomial of another ring");
        let indices = self.indices.clone();
        self.par_limbs_mut()
            .enumerate()
            .for_each(|(k, a)| ring.ntt(indices[k]).forward(a));
        self.retyped()
    }
}

impl RnsPoly<Ntt> {
    /// To coefficient form in place. Cost: one NTT per limb.
    ///
    /// # Panics
    /// If `ring` is not the ring of this polynomial.
    pub fn into_coeff(mut self, ring: &Ring) -> RnsPoly<Coeff> {
        assert!(self.ring.same(ring), "a polynomial of another ring");
        let indices = self.indices.clone();
        self.par_limbs_mut()
            .enumerate()
            .for_each(|(k, a)| ring.ntt(indices[k]).inverse(a));
        self.retyped()
    }

    /// The same polynomial in coefficient form. Cost: one NTT per limb.
    ///
    /// # Panics
    /// If `ring` is not the ring of this polynomial.
    pub fn to_coeff(&self, ring: &Ring) -> RnsPoly<Coeff> {
        assert!(self.ring.same(ring), "a polynomial of another ring");
        let indices = self.indices.clone();
        RnsPoly::from_limbs(ring, indices.clone(), |k, out| {
            ring.ntt(indices[k]).inverse_to(out, self.limb(k))
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

impl<F: Form> Clone for RnsPoly<F> {
    fn clone(&self) -> Self {
        RnsPoly {
            ring: self.ring.clone(),
            indices: self.indices.clone(),
            data: self.data.clone(),
            form: PhantomData,
        }
    }
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

    fn sample(ring: &Ring, seed: i64) -> RnsPoly<Coeff> {
        let x: Vec<i64> = (0..ring.n() as i64)
            .map(|i| (i * 7919 + seed) % 1000 - 500)
            .collect();
        RnsPoly::from_i64(ring, vec![0, 2, 3], &x)
    }

    #[test]
    fn ring_laws_hold() {
        let r = ring();
        let (a, b, c) = (
            sample(&r, 1).into_ntt(&r),
            sample(&r, 2).into_ntt(&r),
            sample(&r, 3).into_ntt(&r),
        );
        let mut left = b.clone();
        left.add_assign(&c);
        left.mul_assign(&a);
        let (mut ab, mut ac) = (a.clone(), a.clone());
        ab.mul_assign(&b);
        ac.mul_assign(&c);
        ab.add_assign(&ac);
        assert_eq!(left, ab);
        ab.sub_assign(&left);
        assert_eq!(ab, RnsPoly::zero(&r, vec![0, 2, 3]));
        let mut minus = a.clone();
        minus.neg();
        minus.add_assign(&a);
        assert_eq!(minus, ab);
        let mut twice = a.clone();
        twice.mul_scalar_assign(&[2, 2, 2]);
        twice.sub_assign(&a);
        assert_eq!(twice, a);
    }

    #[test]
    fn forms_convert_and_limbs_drop() {
        let r = ring();
        let a = sample(&r, 4);
        let mut back = a.clone().into_ntt(&r).into_coeff(&r);
        assert_eq!(a, back);
        assert_eq!(a, a.clone().into_ntt(&r).to_coeff(&r));
        assert!(
            back.iter()
                .all(|limb| (limb.as_ptr() as usize).is_multiple_of(64))
        );
        back = back.select(&[0, 1]);
        assert_eq!((back.indices(), back.limbs()), (&[0, 2][..], 2));
        assert_eq!(back.limb(1), a.limb(1));
        let wide: Vec<i128> = (0..32).map(|i| (i * 7919 + 4) % 1000 - 500).collect();
        assert_eq!(RnsPoly::from_i128(&r, vec![0, 2, 3], &wide), a);
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
        let a = sample(&r, 5).into_ntt(&r);
        let twice = a
            .automorphism(&automorphism(5, 5))
            .automorphism(&automorphism(5, 13));
        assert_eq!(twice, a.automorphism(&automorphism(5, 65 % 64)));
        let mut x: Vec<i64> = vec![0; 32];
        x[1] = 1;
        let image = RnsPoly::from_i64(&r, vec![1], &x)
            .into_ntt(&r)
            .automorphism(&automorphism(5, 63))
            .into_coeff(&r);
        x[1] = 0;
        x[31] = -1;
        assert_eq!(image, RnsPoly::from_i64(&r, vec![1], &x));
    }

    #[test]
    #[should_panic(expected = "different moduli")]
    fn unlike_polynomials_do_not_add() {
        let r = ring();
        RnsPoly::<Ntt>::zero(&r, vec![0, 1]).add_assign(&RnsPoly::zero(&r, vec![0, 2]));
    }
}
