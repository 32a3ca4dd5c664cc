//! What is trained: named vectors of numbers with their gradients.

/// What a parameter is, which decides its weight decay and its learning rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Factors of a linear map: decays.
    Weight,
    /// Biases, scales and offsets of normalisations: no decay.
    Offset,
    /// Coefficients of a polynomial activation: no decay, a learning rate of its own.
    Coefficient,
}

/// One trained vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Unique in the model: the node's name and what it is there.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its values; convolutions as `(Kh, Kw, C/G, O)`, linear maps as `(in, out)`.
    pub values: Vec<f32>,
    /// The loss's derivative by each value, summed since the last [`Parameter::clear`].
    pub gradient: Vec<f32>,
    /// Whether the optimiser changes it.
    pub trainable: bool,
}

impl Parameter {
    /// A trainable parameter without gradient.
    #[must_use]
    pub fn new(name: String, kind: Kind, values: Vec<f32>) -> Self {
        let gradient = vec![0.0; values.len()];
        Self {
            name,
            kind,
            values,
            gradient,
            trainable: true,
        }
    }

    /// Sets the gradient to 0.
    pub fn clear(&mut self) {
        self.gradient.fill(0.0);
    }
}
