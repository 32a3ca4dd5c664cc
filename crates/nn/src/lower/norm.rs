//! Norms: sums over channels by convolutions of ones, and a program.

use super::expand::Expansion;
use super::program::Divisor;
use crate::Result;
use crate::graph::NodeId;
use crate::op::{Conv2d, Norm, NormKind, Op};
use crate::tensor::Shape;
use approx::Program;

/// Most values that a norm is taken over: the sum for each of them is a map of its square.
const MOST_CHANNELS: usize = 1 << 13;

impl Expansion<'_> {
    pub(super) fn norm(
        &mut self,
        name: &str,
        n: &Norm,
        program: &Program,
        x: NodeId,
    ) -> Result<NodeId> {
        let channels = n.scale.values().len();
        if channels > MOST_CHANNELS {
            return Err(self.refuse(
                name,
                &format!("it normalises over {channels} values at once, at most {MOST_CHANNELS} are; train the network with norms over channels, or with batch normalisation"),
            ));
        }
        let size = channels as f64;
        let shape = self.shape(x);
        if let Shape::Vector(features) = shape {
            // one position of an image
            let column = Op::Reshape(Shape::image(features, 1, 1));
            let x = self.node(&format!("{name}/column"), column, &[x])?;
            let y = self.norm(&format!("{name}/norm"), n, program, x)?;
            return self.node(name, Op::Flatten, &[y]);
        }
        // What is squared: x, or x less its mean.
        let centred = match n.kind {
            NormKind::RootMeanSquare => x,
            NormKind::Layer => {
                let sum = self.ones(&format!("{name}/sum"), x, (channels, channels), 1)?;
                let mean = self.affine(&format!("{name}/mean"), sum, (-1.0 / size, 0.0))?;
                self.add(&format!("{name}/centred"), x, mean)?
            }
        };
        let squares = self.product(&format!("{name}/squares"), centred, centred)?;
        let spread = |e: &mut Self, name: &str, x| e.ones(name, x, (1, channels), 1);
        let divisor = Divisor {
            node: self.ones(&format!("{name}/variance"), squares, (channels, 1), 1)?,
            scale: 1.0 / size,
            shift: n.epsilon,
        };
        let y = self.quotient(&format!("{name}/root"), program, &divisor, centred, spread)?;
        let conv = Conv2d {
            bias: n.bias.clone(),
            groups: channels,
            ..Conv2d::new(n.scale.reshaped(name, &[channels, 1, 1, 1])?)
        };
        self.node(name, Op::Conv2d(conv), &[y])
    }
}
