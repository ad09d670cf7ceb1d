//! Finds values that are not finite. Results stay on the device, so the host waits for it only where it reads one.

use tch::{Kind, Tensor};

/// Returns the largest absolute value, a scalar on the device of `values`: NaN if any value is NaN, infinite if any is
/// infinite. It takes one pass and no temporary tensor.
///
/// # Panics
/// Panics if there are no values.
pub fn magnitude(values: &Tensor) -> Tensor {
    let (least, most) = values.detach().aminmax(None, false);
    most.maximum(&-least)
}

/// Whether every value is finite; waits for the device.
pub fn all_finite(values: &Tensor) -> bool {
    values.numel() == 0 || magnitude(values).double_value(&[]).is_finite()
}

/// Returns the place in `values` [total] of the first value that is not finite, a scalar on their device; 0 where all
/// are finite.
pub fn first_non_finite(values: &Tensor) -> Tensor {
    values.isfinite().logical_not().to_kind(Kind::Uint8).argmax(None, false)
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;

    #[test]
    fn one_value_that_is_none_is_found_anywhere() {
        let length = 10_007;
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for place in [0, 1, 4999, length - 1] {
                let values = Tensor::randn([length], (Kind::Float, Device::Cpu));
                assert!(all_finite(&values));
                let _ = values.get(place).fill_(bad);
                assert!(!all_finite(&values), "{bad} at {place}");
                let _ = values.get(length - 1).fill_(bad);
                assert_eq!(first_non_finite(&values).int64_value(&[]), place);
            }
        }
        assert!(all_finite(&Tensor::zeros([0], (Kind::Float, Device::Cpu))));
    }

    #[test]
    fn the_magnitude_has_no_sign() {
        assert_eq!(magnitude(&Tensor::from_slice(&[1f32, -3.0, 2.0])).double_value(&[]), 3.0);
    }
}
