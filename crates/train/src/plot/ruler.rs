//! Rulers: where a value lies on an axis, and its ticks.

/// How an axis runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By powers of ten; values must be positive.
    Log,
}

/// From values to places, with ticks.
pub(super) struct Ruler {
    scale: Scale,
    low: f64,
    high: f64,
    pub(super) ticks: Vec<f64>,
}

impl Ruler {
    /// For these values, with some room at the ends.
    pub(super) fn new(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| {
            (l.min(v), h.max(v))
        });
        let ticks = match scale {
            Scale::Linear => {
                if low == high {
                    (low, high) = (low - 0.5, high + 0.5);
                }
                let rough = (high - low) / 5.0;
                let power = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .map(|s| s * power)
                    .into_iter()
                    .find(|s| *s >= rough * 0.999)
                    .unwrap_or(10.0 * power);
                let first = (low / step).floor();
                let last = (high / step).ceil();
                (low, high) = (first * step, last * step);
                (0..=(last - first) as usize)
                    .map(|i| (first + i as f64) * step)
                    .collect()
            }
            Scale::Log => {
                (low, high) = (low / 1.3, high * 1.3);
                let decades = (high / low).log10();
                let factors: &[f64] = if decades < 3.0 {
                    &[1.0, 2.0, 5.0]
                } else {
                    &[1.0]
                };
                let skip = if decades > 9.0 { 2 } else { 1 };
                (low.log10().floor() as i32..=high.log10().ceil() as i32)
                    .filter(|e| e % skip == 0)
                    .flat_map(|e| factors.iter().map(move |f| f * 10f64.powi(e)))
                    .filter(|t| low <= *t && *t <= high)
                    .collect()
            }
        };
        Self {
            scale,
            low,
            high,
            ticks,
        }
    }
    /// 0 at the low end, 1 at the high end.
    pub(super) fn place(&self, v: f64) -> f64 {
        match self.scale {
            Scale::Linear => (v - self.low) / (self.high - self.low),
            Scale::Log => (v / self.low).ln() / (self.high / self.low).ln(),
        }
    }
    /// A tick's value.
    pub(super) fn text(v: f64) -> String {
        if v == 0.0 {
            return "0".into();
        }
        let exponent = v.abs().log10().floor() as i32;
        if !(-3..5).contains(&exponent) {
            let digits: String = exponent
                .to_string()
                .chars()
                .map(|c| match c {
                    '-' => '⁻',
                    '1' => '¹',
                    '2' => '²',
                    '3' => '³',
                    c => char::from_u32(0x2070 + c as u32 - '0' as u32).unwrap_or(c),
                })
                .collect();
            let mantissa = v / 10f64.powi(exponent);
            return if (mantissa - 1.0).abs() < 1e-9 {
                format!("10{digits}")
            } else {
                format!("{}·10{digits}", (1e3 * mantissa).round() / 1e3)
            };
        }
        // what a tick is short of its decimals is rounding of its own arithmetic
        let unit = 10f64.powi(3 - exponent);
        format!("{}", (v * unit).round() / unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let linear = Ruler::new(Scale::Linear, [0.13, 0.97].into_iter());
        assert_eq!(linear.ticks.len(), 6);
        assert_eq!(Ruler::text(linear.ticks[3]), "0.6");
        assert!(linear.low <= 0.13 && linear.high >= 0.97);
        let log = Ruler::new(Scale::Log, [2e-6, 3.0].into_iter());
        assert_eq!(log.ticks.len(), 6);
        assert!(
            (log.place(1e-3) - log.place(1e-4) - (log.place(1.0) - log.place(0.1))).abs() < 1e-12
        );
        let short = Ruler::new(Scale::Log, [3.0, 40.0].into_iter());
        let texts: Vec<String> = short.ticks.iter().map(|&t| Ruler::text(t)).collect();
        assert_eq!(texts, ["5", "10", "20", "50"]);
        assert_eq!(Ruler::text(1e-12), "10⁻¹²");
        assert_eq!(Ruler::text(2.5e6), "2.5·10⁶");
        assert_eq!(Ruler::text(0.0), "0");
        // a single value has a place too
        assert!((Ruler::new(Scale::Linear, [2.0].into_iter()).place(2.0) - 0.5).abs() < 1e-9);
    }
}
