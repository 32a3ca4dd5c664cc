//! Import of Einsum: products of two tensors at a time, as MatMul has them, and sums over axes that no later tensor and not the result names.

use super::onnx_import::{Imported, Value};
use super::onnx_operator::Importing;
use std::collections::HashMap;

/// A tensor, and a letter for each of its axes.
type Lettered = (Vec<char>, Value);

impl Importing<'_, '_> {
    pub(super) fn einsum(&mut self) -> Imported {
        let (terms, result) = self.equation()?;
        if terms.len() != self.node.input.len() {
            return self.refuse(format!(
                "its equation has {} terms, its inputs are {}",
                terms.len(),
                self.node.input.len()
            ));
        }
        let mut lengths: HashMap<char, usize> = HashMap::new();
        let mut operands = Vec::new();
        for (i, letters) in terms.into_iter().enumerate() {
            let operand = self.operand(i)?;
            let dims = self.dims_of(&operand);
            let alike = |(letter, &d): (&char, &usize)| *lengths.entry(*letter).or_insert(d) == d;
            if dims.len() != letters.len() || !letters.iter().zip(&dims).all(alike) {
                return self.refuse(format!(
                    "input {i} of shape {dims:?} is no {} beside its other inputs",
                    String::from_iter(&letters)
                ));
            }
            operands.push((letters, operand));
        }
        if let Some(letter) = result.iter().find(|letter| !lengths.contains_key(letter)) {
            return self.refuse(format!("no input has the result's axis {letter}"));
        }
        let mut operands = operands.into_iter();
        let Some(mut made) = operands.next() else {
            return self.refuse("it has no inputs");
        };
        while let Some(next) = operands.next() {
            let later = operands.clone().flat_map(|(letters, _)| letters);
            let later: Vec<char> = later.chain(result.iter().copied()).collect();
            made = self.contracted(made, next, &later)?;
        }
        let (letters, value) = self.without_others(made, |letter| result.contains(&letter))?;
        let order = places(&result, &letters);
        self.moved(value, |axes| Some(axes.transposed(&order)))
    }

    /// The letters of each input's axes, and those of the result's.
    fn equation(&self) -> Imported<(Vec<Vec<char>>, Vec<char>)> {
        let mut equation = self.text("equation");
        equation.retain(|c| !c.is_whitespace());
        let (terms, result) = match equation.split_once("->") {
            Some((terms, result)) => (terms, Some(result)),
            None => (equation.as_str(), None),
        };
        let letters = |term: &str| -> Imported<Vec<char>> {
            let letters: Vec<char> = term.chars().collect();
            if let Some(other) = letters.iter().find(|c| !c.is_ascii_alphabetic()) {
                return self.refuse(format!(
                    "its equation {equation:?} has {other:?}: letters are read, one for each axis; write axes that an ellipsis stands for as letters"
                ));
            }
            let twice = (1..letters.len()).find(|&i| letters[..i].contains(&letters[i]));
            match twice {
                Some(i) => self.refuse(format!(
                    "its equation {equation:?} names {} twice in one place, a diagonal, which is not read; take it by torch.diagonal",
                    letters[i]
                )),
                None => Ok(letters),
            }
        };
        let terms = terms
            .split(',')
            .map(letters)
            .collect::<Imported<Vec<_>>>()?;
        let result = match result {
            Some(result) => letters(result)?,
            // unsaid, it is all that is named once, in the alphabet's order
            None => {
                let all: Vec<char> = terms.concat();
                let once = |c: &char| all.iter().filter(|&other| other == c).count() == 1;
                let mut once: Vec<char> = all.iter().copied().filter(once).collect();
                once.sort_unstable();
                once
            }
        };
        Ok((terms, result))
    }

    /// Summed over the axes whose letters are not wanted.
    fn without_others(
        &mut self,
        (letters, value): Lettered,
        wanted: impl Fn(char) -> bool,
    ) -> Imported<Lettered> {
        let over: Vec<usize> = (0..letters.len())
            .filter(|&k| !wanted(letters[k]))
            .collect();
        if over.is_empty() {
            return Ok((letters, value));
        }
        let dims = self.dims_of(&value);
        let kept: Vec<usize> = (0..letters.len()).filter(|k| !over.contains(k)).collect();
        let value = match value {
            Value::Node(x) => {
                let sum = self.sum(&x, &over)?;
                let sum = self.view_as(&sum, kept.iter().map(|&k| dims[k]).collect())?;
                Value::Node(sum)
            }
            Value::Constant(c) => Value::Constant(self.total(&c, &over)?),
            refused => refused,
        };
        Ok((kept.into_iter().map(|k| letters[k]).collect(), value))
    }

    /// The product of two tensors, summed over the axes that both have and nothing behind it names.
    fn contracted(&mut self, a: Lettered, b: Lettered, later: &[char]) -> Imported<Lettered> {
        let others = b.0.clone();
        let (own, a) = self.without_others(a, |c| later.contains(&c) || others.contains(&c))?;
        let (others, b) = self.without_others(b, |c| later.contains(&c) || own.contains(&c))?;
        let both = |c: &&char| others.contains(c);
        let pick = |from: &[char], take: &dyn Fn(&&char) -> bool| -> Vec<char> {
            from.iter().filter(|c| take(c)).copied().collect()
        };
        let batch = pick(&own, &|c| both(c) && later.contains(c));
        let over = pick(&own, &|c| both(c) && !later.contains(c));
        let rows = pick(&own, &|c| !both(c));
        let columns = pick(&others, &|c| !own.contains(c));
        let (a, lengths) = self.as_matrix((own, a), [&batch, &rows, &over])?;
        let (b, right) = self.as_matrix((others, b), [&batch, &over, &columns])?;
        let product = self.product(a, b)?;
        let dims = [
            &lengths[..batch.len() + rows.len()],
            &right[batch.len() + over.len()..],
        ];
        let value = self.reshaped(product, dims.concat())?;
        Ok(([batch, rows, columns].concat(), value))
    }

    /// With its axes in this order, the second and the third group one axis each; and the lengths that they had.
    fn as_matrix(
        &mut self,
        (letters, value): Lettered,
        [batch, rows, columns]: [&[char]; 3],
    ) -> Imported<(Value, Vec<usize>)> {
        let order = places(&[batch, rows, columns].concat(), &letters);
        let dims = self.dims_of(&value);
        let dims: Vec<usize> = order.iter().map(|&k| dims[k]).collect();
        let value = self.moved(value, |axes| Some(axes.transposed(&order)))?;
        let (first, rest) = dims.split_at(batch.len());
        let (rows, columns) = rest.split_at(rows.len());
        let product = |d: &[usize]| d.iter().fold(1usize, |p, &d| p.saturating_mul(d));
        let to = [first, &[product(rows), product(columns)]].concat();
        Ok((self.reshaped(value, to)?, dims))
    }
}

/// Where these letters stand among all.
fn places(letters: &[char], all: &[char]) -> Vec<usize> {
    let place = |c: &char| all.iter().position(|other| other == c);
    letters.iter().filter_map(place).collect()
}
