//! Which instructions run, and how a kernel that is written once becomes code for each of them.
//!
//! A kernel is a function in `kernels!`, generic over the `Vector` that it computes with. It is compiled once per instruction set, inside
//! a function with that `#[target_feature]`; everything that it calls must be `#[inline(always)]`, or it would be compiled without the
//! feature. The portable twin is the same kernel over four plain floats.

#![expect(
    clippy::needless_range_loop,
    reason = "indices that the compiler unrolls into registers"
)]

use std::cell::Cell;

/// A set of instructions that kernels are compiled for, best last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// Plain Rust on any machine.
    Portable,
    /// AVX2 and FMA: eight floats.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): sixteen floats.
    Avx512,
}

thread_local! {
    static LIMIT: Cell<Instructions> = const { Cell::new(Instructions::Avx512) };
}

/// The best instructions of this machine, within the limit of [`with_instructions`]. Each kernel asks once per call.
#[must_use]
pub fn instructions() -> Instructions {
    detected().min(LIMIT.get())
}

/// Runs `f` with kernels called from this thread limited to `limit`: for tests and measurements. A limit above what the machine has
/// changes nothing.
pub fn with_instructions<T>(limit: Instructions, f: impl FnOnce() -> T) -> T {
    struct Restore(Instructions);
    impl Drop for Restore {
        fn drop(&mut self) {
            LIMIT.set(self.0);
        }
    }
    let _restore = Restore(LIMIT.replace(limit));
    f()
}

#[cfg(target_arch = "x86_64")]
pub(crate) fn detected() -> Instructions {
    if is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
    {
        Instructions::Avx512
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Instructions::Avx2
    } else {
        Instructions::Portable
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn detected() -> Instructions {
    Instructions::Portable
}

/// Kernels: functions that are written once, over a [`Vector`], and take what to run them with first: given instructions, or the best there
/// are if the machine lacks them.
macro_rules! kernels {
    ($(
        $(#[$about:meta])*
        $visible:vis fn $name:ident<$vector:ident>($($operand:ident: $type:ty),* $(,)?) $(-> $out:ty)? $body:block
    )*) => {$(
        $(#[$about])*
        #[allow(clippy::too_many_arguments, reason = "a kernel's operands")]
        $visible fn $name(
            instructions: $crate::instructions::Instructions,
            $($operand: $type),*
        ) $(-> $out)? {
            use $crate::instructions::{Four, Instructions, Vector, detected};
            /// # Safety
            /// The machine has the vector's instructions.
            #[inline(always)]
            unsafe fn kernel<$vector: Vector>($($operand: $type),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($operand: $type),*) $(-> $out)? {
                // SAFETY: this function's features are the vector's
                unsafe { kernel::<std::arch::x86_64::__m512>($($operand),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($operand: $type),*) $(-> $out)? {
                // SAFETY: this function's features are the vector's
                unsafe { kernel::<std::arch::x86_64::__m256>($($operand),*) }
            }
            match instructions.min(detected()) {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `detected` saw the features
                Instructions::Avx512 => unsafe { avx512($($operand),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `detected` saw the features
                Instructions::Avx2 => unsafe { avx2($($operand),*) },
                // SAFETY: plain floats need no features
                _ => unsafe { kernel::<Four>($($operand),*) },
            }
        }
    )*};
}
pub(crate) use kernels;

/// A few floats that are computed with at once.
///
/// # Safety
/// (of every method) The machine has the instructions; pointers are valid for `LANES` floats, or for the `n` that are named.
pub(crate) trait Vector: Copy {
    /// Floats in it.
    const LANES: usize;
    /// Whether products are added without rounding in between: `f32::mul_add` is one instruction.
    const FUSED: bool;
    /// How many accumulators of one vector fit the registers beside a kernel's operands, at one and at two vectors per row.
    const ROWS: [usize; 2];
    unsafe fn splat(v: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    /// The first `n < LANES` floats, then zeros.
    unsafe fn load_part(p: *const f32, n: usize) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn store_part(self, p: *mut f32, n: usize);
    /// self + a·b
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    /// self − a
    unsafe fn minus(self, a: Self) -> Self;
}

/// x·y + z, fused where `V` is.
#[inline(always)]
pub(crate) fn fused<V: Vector>(x: f32, y: f32, z: f32) -> f32 {
    if V::FUSED { x.mul_add(y, z) } else { x * y + z }
}

/// Four plain floats: the portable vector.
#[derive(Clone, Copy)]
pub(crate) struct Four([f32; 4]);

impl Vector for Four {
    const LANES: usize = 4;
    const FUSED: bool = false;
    const ROWS: [usize; 2] = [8, 4];
    #[inline(always)]
    unsafe fn splat(v: f32) -> Self {
        Self([v; 4])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller's pointer is valid for four floats
        Self(unsafe { p.cast::<[f32; 4]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_part(p: *const f32, n: usize) -> Self {
        let mut out = [0.0; 4];
        for (i, out) in out.iter_mut().enumerate().take(n) {
            // SAFETY: the caller's pointer is valid for n floats
            *out = unsafe { *p.add(i) };
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller's pointer is valid for four floats
        unsafe { p.cast::<[f32; 4]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_part(self, p: *mut f32, n: usize) {
        for (i, &v) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller's pointer is valid for n floats
            unsafe { *p.add(i) = v }
        }
    }
    #[inline(always)]
    unsafe fn add_product(self, a: Self, b: Self) -> Self {
        let mut out = self.0;
        for i in 0..4 {
            out[i] += a.0[i] * b.0[i];
        }
        Self(out)
    }
    #[inline(always)]
    unsafe fn minus(self, a: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] - a.0[i]))
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Vector;
    use std::arch::x86_64::*;

    // SAFETY of all that follows: the trait's contract gives the features and the pointers; masked lanes are not touched.
    impl Vector for __m512 {
        const LANES: usize = 16;
        const FUSED: bool = true;
        const ROWS: [usize; 2] = [16, 12];
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            // SAFETY: as above
            unsafe { _mm512_set1_ps(v) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: as above
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> Self {
            // SAFETY: as above
            unsafe { _mm512_maskz_loadu_ps(((1u32 << n) - 1) as u16, p) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above
            unsafe { _mm512_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, n: usize) {
            // SAFETY: as above
            unsafe { _mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as u16, self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above
            unsafe { _mm512_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self) -> Self {
            // SAFETY: as above
            unsafe { _mm512_sub_ps(self, a) }
        }
    }

    /// Lanes below n.
    #[inline(always)]
    unsafe fn mask(n: usize) -> __m256i {
        // SAFETY: AVX2 by the trait's contract
        unsafe {
            _mm256_cmpgt_epi32(
                _mm256_set1_epi32(n as i32),
                _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
            )
        }
    }

    impl Vector for __m256 {
        const LANES: usize = 8;
        const FUSED: bool = true;
        const ROWS: [usize; 2] = [12, 6];
        #[inline(always)]
        unsafe fn splat(v: f32) -> Self {
            // SAFETY: as above
            unsafe { _mm256_set1_ps(v) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> Self {
            // SAFETY: as above
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn load_part(p: *const f32, n: usize) -> Self {
            // SAFETY: as above
            unsafe { _mm256_maskload_ps(p, mask(n)) }
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f32) {
            // SAFETY: as above
            unsafe { _mm256_storeu_ps(p, self) }
        }
        #[inline(always)]
        unsafe fn store_part(self, p: *mut f32, n: usize) {
            // SAFETY: as above
            unsafe { _mm256_maskstore_ps(p, mask(n), self) }
        }
        #[inline(always)]
        unsafe fn add_product(self, a: Self, b: Self) -> Self {
            // SAFETY: as above
            unsafe { _mm256_fmadd_ps(a, b, self) }
        }
        #[inline(always)]
        unsafe fn minus(self, a: Self) -> Self {
            // SAFETY: as above
            unsafe { _mm256_sub_ps(self, a) }
        }
    }
}
