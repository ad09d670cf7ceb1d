//! Latents that depend on a seed alone: NumPy's legacy `RandomState(seed).randn`, which StyleGAN users know their
//! favourite seeds by, so that seed 42 is the same picture here as elsewhere.

use rand_mt::Mt;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Standard normal draws in the order of NumPy's `RandomState.randn`.
///
/// The numbers come from the polar method of Marsaglia and Bray (1964) over 53-bit uniforms of MT19937; the second
/// number of a pair is handed out first.
pub struct NormalStream {
    bits: Mt,
    spare: Option<f64>,
}

impl NormalStream {
    /// Begins the stream of `numpy.random.RandomState(seed)`.
    pub fn from_seed(seed: u32) -> Self {
        Self { bits: Mt::new(seed), spare: None }
    }

    /// Starts the stream of `numpy.random.RandomState([key, ...])`.
    pub fn from_key(key: &[u32]) -> Self {
        Self { bits: Mt::new_with_key(key.iter().copied()), spare: None }
    }

    fn uniform(&mut self) -> f64 {
        let high = f64::from(self.bits.next_u32() >> 5);
        let low = f64::from(self.bits.next_u32() >> 6);
        (high * 67_108_864.0 + low) / 9_007_199_254_740_992.0
    }

    /// Returns the next standard normal number.
    pub fn next_normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let x = 2.0 * self.uniform() - 1.0;
            let y = 2.0 * self.uniform() - 1.0;
            let r2 = x * x + y * y;
            if r2 < 1.0 && r2 != 0.0 {
                let scale = (-2.0 * r2.ln() / r2).sqrt();
                self.spare = Some(scale * x);
                return scale * y;
            }
        }
    }

    /// Fills `out` with the next numbers, rounded to f32.
    pub fn fill(&mut self, out: &mut [f32]) {
        out.iter_mut().for_each(|value| *value = self.next_normal() as f32);
    }
}

/// Returns z [N, z_dim] on `device`, row i being `RandomState(seeds[i]).randn(z_dim)`.
pub fn latents_of_seeds(seeds: &[u32], z_dim: i64, device: Device) -> Tensor {
    rows(seeds.len(), z_dim as usize, |i| NormalStream::from_seed(seeds[i])).to_device(device)
}

/// Returns z [N, z_dim] and noise [N, noise_numel] for the pictures `first .. first + count` of the dump with this
/// seed: row i is `RandomState([seed, first + i]).randn(z_dim + noise_numel)`, whatever batch it is drawn in.
pub fn dump_latents(
    seed: u32,
    first: u32,
    count: usize,
    z_dim: i64,
    noise_numel: i64,
    device: Device,
) -> (Tensor, Tensor) {
    let width = (z_dim + noise_numel) as usize;
    let both = rows(count, width, |i| NormalStream::from_key(&[seed, first + i as u32]));
    let parts = both.split_with_sizes([z_dim, noise_numel], 1);
    (parts[0].to_device(device), parts[1].to_device(device))
}

fn rows(count: usize, width: usize, stream: impl Fn(usize) -> NormalStream + Sync) -> Tensor {
    let mut values = vec![0f32; count * width];
    values.par_chunks_mut(width.max(1)).enumerate().for_each(|(i, row)| stream(i).fill(row));
    Tensor::from_slice(&values).view([count as i64, width as i64]).to_kind(Kind::Float)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected numbers are `numpy.random.RandomState(42).randn(5)` with NumPy 2.4.
    #[test]
    fn a_seed_gives_the_numbers_of_numpy() {
        let mut stream = NormalStream::from_seed(42);
        for expected in
            [0.4967141530112327, -0.13826430117118466, 0.6476885381006925, 1.5230298564080254, -0.23415337472333597]
        {
            assert!((stream.next_normal() - expected).abs() < 1e-15);
        }
    }

    /// The expected numbers are `numpy.random.RandomState([7, 3]).randn(3)` with NumPy 2.4.
    #[test]
    fn a_key_gives_the_numbers_of_numpy() {
        let mut stream = NormalStream::from_key(&[7, 3]);
        for expected in [-0.2746800103150997, 1.5924250856311755, -0.2530776761430552] {
            assert!((stream.next_normal() - expected).abs() < 1e-15);
        }
    }

    #[test]
    fn dump_latents_do_not_depend_on_the_batch() {
        let (z, noise) = dump_latents(1, 0, 5, 8, 20, Device::Cpu);
        let (z_late, noise_late) = dump_latents(1, 3, 2, 8, 20, Device::Cpu);
        assert!(z.narrow(0, 3, 2).equal(&z_late));
        assert!(noise.narrow(0, 3, 2).equal(&noise_late));
    }
}
