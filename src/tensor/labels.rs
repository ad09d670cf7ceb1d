//! Makes one-hot rows of classes, as networks take them, and draws classes as often as a data set has them.

use rand::Rng;
use tch::{Device, Tensor};

use super::device::upload;

/// Returns c [N, c_dim], a one-hot row for each of the N classes.
///
/// # Panics
/// Panics if a class is not below `c_dim`.
pub fn one_hot(classes: &[u32], c_dim: i64, device: Device) -> Tensor {
    let width = c_dim as usize;
    let mut rows = vec![0f32; classes.len() * width];
    for (row, &class) in rows.chunks_exact_mut(width).zip(classes) {
        row[class as usize] = 1.0;
    }
    upload(&Tensor::from_slice(&rows).view([classes.len() as i64, c_dim]), device)
}

/// The frequency of each class among the pictures of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassDistribution {
    /// For each class, the number of its pictures and those of the classes before it.
    cumulative: Vec<u64>,
}

impl ClassDistribution {
    /// Makes the distribution of classes with these numbers of pictures; None where there is no picture at all, or more
    /// than a u64 can count.
    pub fn new(counts: &[u64]) -> Option<Self> {
        let mut sum = 0u64;
        let mut add = |&count: &u64| {
            sum = sum.checked_add(count)?;
            Some(sum)
        };
        let cumulative = counts.iter().map(&mut add).collect::<Option<Vec<_>>>()?;
        (sum > 0).then_some(Self { cumulative })
    }

    /// Returns the number of classes, c_dim of the networks.
    pub fn c_dim(&self) -> i64 {
        self.cumulative.len() as i64
    }

    /// Returns the classes that have pictures, in order.
    pub fn present(&self) -> Vec<u32> {
        let before = |class: usize| if class == 0 { 0 } else { self.cumulative[class - 1] };
        (0..self.cumulative.len()).filter(|&class| self.cumulative[class] > before(class)).map(|c| c as u32).collect()
    }

    /// Returns the class of a picture drawn at random.
    pub fn sample(&self, rng: &mut impl Rng) -> u32 {
        let total = self.cumulative.last().copied().unwrap_or(1);
        let picture = rng.random_range(0..total);
        self.cumulative.partition_point(|&sum| sum <= picture) as u32
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn rows_have_a_one_in_the_place_of_their_class() {
        let expected = Tensor::from_slice(&[0f32, 0.0, 1.0, 1.0, 0.0, 0.0]).view([2, 3]);
        assert_eq!(one_hot(&[2, 0], 3, Device::Cpu), expected);
    }

    #[test]
    fn classes_are_drawn_as_often_as_they_occur_and_empty_ones_never() {
        let classes = ClassDistribution::new(&[0, 300, 0, 100]).unwrap();
        assert_eq!((classes.c_dim(), classes.present()), (4, vec![1, 3]));
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut drawn = [0; 4];
        (0..4000).for_each(|_| drawn[classes.sample(&mut rng) as usize] += 1);
        assert_eq!((drawn[0], drawn[2]), (0, 0));
        assert!((2900..=3100).contains(&drawn[1]), "{drawn:?}");
    }

    #[test]
    fn counts_of_nothing_are_no_distribution() {
        assert_eq!(ClassDistribution::new(&[]), None);
        assert_eq!(ClassDistribution::new(&[0, 0]), None);
        assert_eq!(ClassDistribution::new(&[u64::MAX, 1]), None);
    }
}
