//! What can be wrong with a request for a polynomial or a program of them.

/// Why no polynomial or program could be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// The interval's ends aren't finite numbers in increasing order.
    #[error(
        "interval [{low}, {high}] is empty or not finite; give two finite ends with low < high"
    )]
    Interval {
        /// Lower end as given.
        low: f64,
        /// Upper end as given.
        high: f64,
    },
    /// A coefficient isn't finite, or there is none.
    #[error(
        "coefficient {index} of the polynomial is {value}; every coefficient must be finite and there must be at least one"
    )]
    Coefficient {
        /// Position in the list (0 when the list is empty).
        index: usize,
        /// The offending value (NaN when the list is empty).
        value: f64,
    },
    /// The degree is above what the method handles in double precision.
    #[error(
        "{method} handles degrees up to {limit}, {degree} was asked for; split the function or use a composite"
    )]
    Degree {
        /// Which method refused.
        method: &'static str,
        /// The degree asked for.
        degree: usize,
        /// The largest degree that it handles.
        limit: usize,
    },
    /// The function isn't finite somewhere on the interval.
    #[error("the function is {value} at x = {x}; it must be finite on the whole interval")]
    Function {
        /// Where.
        x: f64,
        /// The value there.
        value: f64,
    },
    /// The weighted sample doesn't determine the polynomial.
    #[error("{samples} usable samples do not determine a polynomial of degree {degree}; give at least {} distinct points with positive weight", degree + 1)]
    Samples {
        /// Points in the interval with positive finite weight.
        samples: usize,
        /// The degree asked for.
        degree: usize,
    },
    /// The exchange iteration stopped before the error was level.
    #[error(
        "the exchange stopped after {iterations} rounds with errors between {lower} and {upper}; use a smaller degree or least squares"
    )]
    NotConverged {
        /// Rounds done.
        iterations: usize,
        /// Levelled error on the last reference: a lower bound of the best error.
        lower: f64,
        /// Largest error found.
        upper: f64,
    },
    /// A composite sign is made of odd polynomials.
    #[error(
        "a composite sign is made of one or more polynomials of odd degree, {degree} was asked for; give odd degrees such as 15, 15, 27"
    )]
    OddDegree {
        /// The degree asked for, 0 when there was none.
        degree: usize,
    },
    /// No degrees are known for this precision.
    #[error(
        "no degrees are tabled for a sign of precision 2^-{alpha}; α from 4 to 14 are, or give the degrees yourself"
    )]
    Alpha {
        /// The precision asked for, in bits.
        alpha: u32,
    },
    /// A quotient's divisor or a root's argument may be 0 or negative.
    #[error(
        "[{low}, {high}] is no interval to divide or take a root on; give two finite ends with 0 < low < high (add a constant to x)"
    )]
    Positive {
        /// Lower end as given.
        low: f64,
        /// Upper end as given.
        high: f64,
    },
    /// The method can't compute this function from there.
    #[error(
        "{method} does not compute {function} on this interval; use another method or a start of higher degree"
    )]
    Method {
        /// What was to be computed.
        function: &'static str,
        /// How.
        method: String,
    },
    /// A precision that doubles don't resolve, or none.
    #[error("a precision of {bits} bits was asked for; give one above 0 and up to {limit}")]
    Precision {
        /// The precision asked for.
        bits: f64,
        /// The highest that there is.
        limit: f64,
    },
    /// No method is that precise within the levels.
    #[error("{function} on [{low}, {high}] to {bits} bits needs {}, {budget} are left; {budget} give {best:.1} bits: bootstrap before, raise {low}, or ask for less", levels(*.needed))]
    Unreachable {
        /// What was to be computed.
        function: &'static str,
        /// Lower end.
        low: f64,
        /// Upper end.
        high: f64,
        /// The precision asked for.
        bits: f64,
        /// Levels that may be used.
        budget: u32,
        /// Levels that the precision needs, where any method reaches it.
        needed: Option<u32>,
        /// The precision within the budget.
        best: f64,
    },
}

fn levels(needed: Option<u32>) -> String {
    needed.map_or_else(
        || "more levels than any method here knows to use".into(),
        |n| format!("{n} levels"),
    )
}
