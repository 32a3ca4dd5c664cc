//! What is asked of every answer ([`crate::answer`]), and what was measured.

use serde::Serialize;

/// What is asked of every answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerTest {
    /// Every slot is a number.
    Finite,
    /// Values are not larger than calibration promised.
    Magnitude,
    /// Imaginary parts are what the plan says, mostly zero.
    Imaginary,
    /// Slots that repeat each other are the same.
    Replicas,
    /// Slots without a value hold what the plan says, mostly nothing.
    Unused,
    /// The alarm's sums ([`crate::alarm`]) are no larger than those of inputs whose values keep their intervals.
    Alarm,
}

/// A test, what was measured and what is allowed, network units.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Measure {
    /// Which test.
    pub test: AnswerTest,
    /// The largest value that it looks at.
    pub measured: f64,
    /// The largest that an honest answer can have, by the error's bound.
    pub allowed: f64,
    /// The largest that one is expected to have. Less than what is allowed where the bound exceeds the largest value and so says nothing:
    /// there nobody can tell from the answer whether it is right.
    pub expected: f64,
    /// Of a batch, the input that it is about, counted from 0; none where nobody can tell, or there is but one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<usize>,
}

impl Measure {
    /// Whether an honest answer can have it.
    pub(crate) fn is_possible(&self) -> bool {
        self.measured <= self.allowed
    }
    /// Whether one is expected to have it.
    pub(crate) fn is_expected(&self) -> bool {
        self.measured <= self.expected
    }
}

impl std::fmt::Display for Measure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.test {
            AnswerTest::Finite => return f.write_str("a value is not finite"),
            AnswerTest::Magnitude => "a value has magnitude",
            AnswerTest::Imaginary => "an imaginary part has magnitude",
            AnswerTest::Replicas => "values that should be the same differ by",
            AnswerTest::Unused => "a slot that no value has holds",
            AnswerTest::Alarm => "a value left its interval: the alarm reads",
        };
        if let Some(input) = self.input {
            write!(f, "input {input} (counted from 0): ")?;
        }
        let (had, most) = (self.measured, self.allowed);
        match self.is_possible() {
            false => write!(f, "{what} {had:.3e}, at most {most:.3e} is possible"),
            true => write!(
                f,
                "{what} {had:.3e}, at most {:.3e} is expected, and the error's bound ({most:.1e}) is too wide to tell",
                self.expected
            ),
        }
    }
}
