//! The noise of all layers of one picture as numbers to be optimised: kept like noise, so that they cannot take over what w
//! is for.

use tch::{Device, Kind, Tensor};

use crate::latent::seeds::NormalStream;
use crate::model::Generator;
use crate::tensor::no_grad;

/// The side from which on a map is not halved any more.
const SMALLEST_SIDE: i64 = 8;

/// The noise maps of one picture.
pub(super) struct NoiseMaps {
    /// All maps one after the other, [1, noise_numel], a leaf.
    pub values: Tensor,
    /// The sides of the maps.
    sides: Vec<i64>,
}

impl NoiseMaps {
    /// Draws the maps of a generator. None where it takes no noise from outside, or in maps of other sizes than StyleGAN2:
    /// one of 4x4, and two of every resolution above.
    pub fn drawn(generator: &Generator, draws: &mut NormalStream) -> Option<Self> {
        let sides = sides_up_to(generator.img_resolution());
        let numel = generator.noise_numel();
        if numel == 0 || sides.iter().map(|side| side * side).sum::<i64>() != numel {
            return None;
        }
        let mut values = vec![0f32; numel as usize];
        draws.fill(&mut values);
        Some(Self::of(&values, sides, generator.script.device))
    }

    fn of(values: &[f32], sides: Vec<i64>, device: Device) -> Self {
        let values = Tensor::from_slice(values).view([1, -1]).to_device(device).set_requires_grad(true);
        let mut maps = Self { values, sides };
        maps.normalise();
        maps
    }

    /// Returns the penalty of structure: every map's mean product with itself moved by a pixel to the right and downwards,
    /// squared, and the same of the map halved again and again down to 8x8. A halved map is doubled in value, which keeps
    /// the variance of noise. Maps go round at their edges. A scalar with a gradient.
    ///
    /// # Source
    /// Karras et al., arXiv 1912.04958, appendix D.
    pub fn penalty(&self) -> Tensor {
        let shared = |map: &Tensor, axis: i64| (map * map.roll([1i64], [axis])).mean(Kind::Float).square();
        let mut sum = Tensor::zeros([0i64; 0], (Kind::Float, self.values.device()));
        for mut map in self.maps() {
            loop {
                sum = sum + shared(&map, 2) + shared(&map, 3);
                if map.size()[3] <= SMALLEST_SIDE {
                    break;
                }
                map = map.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>) * 2.0;
            }
        }
        sum
    }

    /// Gives every map the mean 0 and the variance 1 again.
    pub fn normalise(&mut self) {
        no_grad(|| {
            for mut map in self.maps() {
                let centred = &map - map.mean(Kind::Float);
                let deviation = centred.square().mean(Kind::Float).sqrt();
                map.copy_(&(centred / deviation.clamp_min(f64::from(f32::MIN_POSITIVE))));
            }
        });
    }

    /// Views of the maps, [1, 1, side, side] each.
    fn maps(&self) -> Vec<Tensor> {
        let starts = self.sides.iter().scan(0, |next, side| {
            *next += side * side;
            Some(*next - side * side)
        });
        let map = |(start, &side): (i64, &i64)| self.values.narrow(1, start, side * side).view([1, 1, side, side]);
        starts.zip(&self.sides).map(map).collect()
    }
}

fn sides_up_to(resolution: i64) -> Vec<i64> {
    let doublings = std::iter::successors(Some(8), |side| Some(side * 2)).take_while(|&side| side <= resolution);
    std::iter::once(4).chain(doublings.flat_map(|side| [side, side])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(side: i64, value: impl Fn(i64, i64) -> f32) -> NoiseMaps {
        let values: Vec<f32> = (0..side * side).map(|index| value(index % side, index / side)).collect();
        NoiseMaps::of(&values, vec![side], Device::Cpu)
    }

    #[test]
    fn maps_have_the_sides_of_stylegan2() {
        assert_eq!(sides_up_to(4), [4]);
        assert_eq!(sides_up_to(16), [4, 8, 8, 16, 16]);
    }

    /// Rows of +1 and -1 have the product 1 to the right and -1 downwards; halved, all is 0.
    #[test]
    fn stripes_are_penalised_in_both_axes() {
        let stripes = maps(16, |_, y| if y % 2 == 0 { 1.0 } else { -1.0 });
        assert!((stripes.penalty().double_value(&[]) - 2.0).abs() < 1e-6);
    }

    /// Stripes of two rows: 1 to the right and 0 downwards, and halved to stripes of one row and twice the value, 4 and -4.
    #[test]
    fn structure_that_halving_uncovers_is_penalised_too() {
        let stripes = maps(16, |_, y| if y % 4 < 2 { 1.0 } else { -1.0 });
        assert!((stripes.penalty().double_value(&[]) - (1.0 + 16.0 + 16.0)).abs() < 1e-5);
    }

    #[test]
    fn noise_has_hardly_a_penalty_and_is_normalised() {
        let mut values = vec![0f32; 64 * 64];
        NormalStream::from_seed(1).fill(&mut values);
        let shifted: Vec<f32> = values.iter().map(|value| 3.0 * value + 5.0).collect();
        let noise = NoiseMaps::of(&shifted, vec![64], Device::Cpu);
        assert!(noise.values.mean(Kind::Float).double_value(&[]).abs() < 1e-5);
        assert!((noise.values.square().mean(Kind::Float).double_value(&[]) - 1.0).abs() < 1e-4);
        // The mean product of n pairs has the variance 1/n, which is 1/64 at 8x8: 2 (1/4096 + 1/1024 + 1/256 + 1/64) = 0.04.
        assert!(noise.penalty().double_value(&[]) < 0.3);
        let gradient = Tensor::run_backward(&[noise.penalty()], &[&noise.values], false, false).remove(0);
        assert_eq!(gradient.size(), [1, 64 * 64]);
    }
}
