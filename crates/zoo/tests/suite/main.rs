//! Model families against references of others, their files, their lowering, and every refusal.

mod encoder;
mod gguf;
mod language;
mod lower;
mod oracle;
mod positions;
mod resnet;
mod sentence;
mod step;
mod vit;

use nn::format::state_dict::{StateDict, StateTensor};
use nn::{Error, Parameter, Shape, Tensor};
use std::collections::BTreeMap;

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

/// Tensors of which this one has a row too many.
pub(crate) fn misshapen(tensors: &BTreeMap<String, StateTensor>, name: &str) -> StateDict {
    let mut out = tensors.clone();
    let tensor = out.get_mut(name).expect("there");
    tensor.shape[0] += 1;
    tensor.values.resize(tensor.shape.iter().product(), 0.0);
    StateDict::new(out)
}

/// That reading refuses a checkpoint without any of its tensors, with one of another shape, and with one that holds no number, and says which.
pub(crate) fn broken_tensors_are_named(
    tensors: &BTreeMap<String, StateTensor>,
    read: impl Fn(StateDict) -> Error,
) {
    for name in tensors.keys() {
        let mut without = tensors.clone();
        without.remove(name);
        let e = read(StateDict::new(without));
        assert!(
            matches!(&e, Error::MissingTensor { tensor, .. } if tensor == name),
            "{e}"
        );
        let e = read(misshapen(tensors, name));
        assert!(
            matches!(&e, Error::TensorShape { tensor, .. } if tensor == name),
            "{e}"
        );
        let mut nan = tensors.clone();
        nan.get_mut(name).expect("there").values[1] = f64::NAN;
        let e = read(StateDict::new(nan));
        assert!(
            matches!(&e, Error::NotFinite { tensor, .. } if tensor == name),
            "{e}"
        );
    }
}
