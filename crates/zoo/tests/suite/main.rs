//! Model families against references of others, their files, their lowering, and every refusal.

mod encoder;
mod gguf;
mod language;
mod lower;
mod oracle;
mod resnet;
mod sentence;
mod vit;

use nn::{Parameter, Shape, Tensor};

/// A reproducible stream of numbers in [−1, 1).
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub(crate) fn parameter(&mut self, shape: &[usize]) -> Parameter {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| self.next() as f32)
            .collect();
        Parameter::new("random", shape, values).expect("finite")
    }

    pub(crate) fn tensor(&mut self, shape: Shape) -> Tensor {
        Tensor::new(shape, (0..shape.len()).map(|_| self.next()).collect()).expect("fits")
    }
}

pub(crate) fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance, "value {i}: {x} and {y}");
    }
}
