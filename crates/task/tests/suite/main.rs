//! What clients encode and read, against numbers by hand, through bytes, and every refusal.

mod picture;
mod prompts;
mod published;
mod tasks;
mod wordpiece;

pub(crate) fn assert_close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance, "value {i}: {x} and {y}");
    }
}
