//! Every random stream of a run is seeded from (run seed, iteration, stream, place of the micro-batch in the batch), so
//! resuming needs no generator state, and it does not matter which process computes a micro-batch: the same place in the
//! run always draws the same numbers.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The purpose of a random stream. A new purpose gets a new number, and numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Latents, noise and style mixing of the generator's main phase.
    GeneratorMain = 1,
    /// Latents, noise and style mixing of the path-length phase.
    GeneratorReg = 2,
    /// Latents, noise and style mixing of the discriminator's main phase.
    DiscriminatorMain = 3,
    /// Latents, noise and style mixing of the images that R2 looks at, and the noise of the augmentation in its phase and R1's.
    DiscriminatorReg = 4,
    /// The order of the training pictures.
    Sampler = 5,
    /// The latents of the preview grid, and the pictures of the grid of real ones.
    Grid = 6,
    /// The augmentation of the generator's main phase.
    AugmentGeneratorMain = 7,
    /// The augmentation of the discriminator's main phase.
    AugmentDiscriminatorMain = 8,
    /// The augmentation of the R1 and R2 phase.
    AugmentDiscriminatorReg = 9,
    /// The classes of a dump, one draw per picture.
    DumpClass = 10,
}

/// Returns a well-mixed 64-bit seed for one place in the run.
pub fn derive(run_seed: u64, iteration: u64, stream: Stream, place: u64) -> u64 {
    [iteration, stream as u64, place].into_iter().fold(mix(run_seed), |state, part| mix(state ^ mix(part)))
}

/// Seeds libtorch's default generators (all devices) for one place in the run.
pub fn seed_torch(run_seed: u64, iteration: u64, stream: Stream, place: u64) {
    tch::manual_seed(derive(run_seed, iteration, stream, place) as i64);
}

/// Returns a random generator for decisions of the host, such as style-mixing cutoffs, at one place in the run.
pub fn host_rng(run_seed: u64, iteration: u64, stream: Stream, place: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(derive(run_seed, iteration, stream, place))
}

/// Applies the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), a bijection that scatters close seeds.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mix_is_splitmix64() {
        // First outputs of the published generator seeded with 0 and with its increment.
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
        assert_eq!(mix(0x9e37_79b9_7f4a_7c15), 0x6e78_9e6a_a1b9_65f4);
    }

    /// A run that is resumed with a later version has to draw as it did. The values were computed from the formula in
    /// Python.
    #[test]
    fn no_stream_changes_from_one_version_to_the_next() {
        for (stream, seed) in [
            (Stream::GeneratorMain, 0xa93d_a659_c4dc_284c),
            (Stream::GeneratorReg, 0xafa5_3f2e_1aee_3587),
            (Stream::DiscriminatorMain, 0x11ba_9d96_5dbb_6531),
            (Stream::DiscriminatorReg, 0x9a80_26a6_7f01_86f7),
            (Stream::Sampler, 0x370f_1a76_3082_646a),
            (Stream::Grid, 0x486e_9d52_3868_a321),
            (Stream::AugmentGeneratorMain, 0xce02_374e_4bc7_5546),
            (Stream::AugmentDiscriminatorMain, 0xb8f5_f7b9_ea8c_8204),
            (Stream::AugmentDiscriminatorReg, 0x574b_976b_f696_8674),
            (Stream::DumpClass, 0x4f63_3a54_5b9a_b0ad),
        ] {
            assert_eq!(derive(1, 2, stream, 3), seed, "{stream:?}");
        }
    }

    #[test]
    fn every_coordinate_changes_the_seed() {
        let base = derive(1, 2, Stream::GeneratorMain, 0);
        assert_ne!(base, derive(2, 2, Stream::GeneratorMain, 0));
        assert_ne!(base, derive(1, 3, Stream::GeneratorMain, 0));
        assert_ne!(base, derive(1, 2, Stream::GeneratorReg, 0));
        assert_ne!(base, derive(1, 2, Stream::GeneratorMain, 1));
        assert_eq!(base, derive(1, 2, Stream::GeneratorMain, 0));
    }
}
