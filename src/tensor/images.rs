//! Converts pixels to tensors and back as the field does, and refuses images that are not finite.

use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

use super::device::upload;

/// The way in which an image in [-1, 1] becomes bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToBytes {
    /// rint((x + 1) * 127.5): what preview grids and single pictures use.
    Round,
    /// trunc(clamp(127.5 x + 128)): what the field's metric code feeds to its detectors.
    Metric,
}

/// Converts planar u8 pixels [N, C, H, W] to f32 in [-1, 1] on `device`: u8 / 127.5 - 1.
pub fn from_bytes(pixels: &[u8], shape: [i64; 4], device: Device) -> Tensor {
    upload(&Tensor::from_data_size(pixels, &shape, Kind::Uint8), device).to_kind(Kind::Float) / 127.5 - 1.0
}

/// Converts f32 images [N, C, H, W] in [-1, 1] to u8 of the same shape on the same device; values outside are clamped.
pub fn to_u8(images: &Tensor, how: ToBytes) -> Tensor {
    match how {
        ToBytes::Round => ((images + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8),
        ToBytes::Metric => (images * 127.5 + 128.0).clamp(0.0, 255.0).to_kind(Kind::Uint8),
    }
}

/// Refuses images with a value that is not finite: as bytes they would look like pictures.
///
/// # Errors
/// Some image has such a value; the message says how many have.
pub fn check_finite(images: &Tensor) -> Result<()> {
    let whole = images.isfinite().flatten(1, -1).all_dim(1, false);
    let (n, bad) = (images.size()[0], whole.logical_not().sum(Kind::Int64).int64_value(&[]));
    ensure!(
        bad == 0,
        "{bad} of {n} images have values that are not finite: the weights are damaged or diverged; use others"
    );
    Ok(())
}

/// Returns the bytes of a u8 tensor, in its logical order.
pub fn bytes(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut out = vec![0u8; tensor.numel()];
    let count = out.len();
    tensor.copy_data_u8(&mut out, count);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_the_round_trip_both_ways() {
        let all: Vec<u8> = (0..=255).collect();
        let images = from_bytes(&all, [1, 1, 16, 16], Device::Cpu);
        assert_eq!(bytes(&to_u8(&images, ToBytes::Round)), all);
        assert_eq!(images.double_value(&[0, 0, 0, 0]), -1.0);
        assert_eq!(images.double_value(&[0, 0, 15, 15]), 1.0);
    }

    #[test]
    fn an_image_with_a_nan_is_counted() {
        let images = Tensor::from_slice(&[0f32, 1.0, f32::NAN, 1.0]).view([2, 1, 1, 2]);
        assert!(check_finite(&images.narrow(0, 0, 1)).is_ok());
        assert!(check_finite(&images).unwrap_err().to_string().starts_with("1 of 2 images"));
    }

    #[test]
    fn values_outside_the_range_are_clamped() {
        let images = Tensor::from_slice(&[-3.0f32, -1.0, 0.0, 1.0, 3.0]).view([5, 1, 1, 1]);
        assert_eq!(bytes(&to_u8(&images, ToBytes::Round)), [0, 0, 128, 255, 255]);
        assert_eq!(bytes(&to_u8(&images, ToBytes::Metric)), [0, 0, 128, 255, 255]);
    }
}
