//! Animated WebP, lossy, by libwebp.

use std::io::Write;

use anyhow::{Result, anyhow, ensure};
use webp_animation::{Encoder, EncoderOptions, EncodingConfig, EncodingType, LossyEncodingConfig};

use super::{Film, FilmShape};

/// The quality, 0 to 100.
const QUALITY: f32 = 90.0;

pub(super) struct WebP {
    encoder: Encoder,
    shape: FilmShape,
    frames: u64,
}

impl WebP {
    pub(super) fn begin(shape: FilmShape) -> Result<Self> {
        let lossy = EncodingType::Lossy(LossyEncodingConfig::default());
        let config = EncodingConfig { quality: QUALITY, encoding_type: lossy, ..EncodingConfig::default() };
        let options = EncoderOptions { encoding_config: Some(config), ..EncoderOptions::default() };
        let encoder = Encoder::new_with_options((shape.width as u32, shape.height as u32), options)
            .map_err(|error| anyhow!("cannot begin the WebP: {error:?}"))?;
        Ok(Self { encoder, shape, frames: 0 })
    }

    /// Returns the time of a frame in milliseconds.
    fn time(&self, frame: u64) -> i32 {
        (frame as f64 * 1000.0 / f64::from(self.shape.fps)).round() as i32
    }
}

impl Film for WebP {
    fn add(&mut self, rgb: &[u8]) -> Result<()> {
        let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]).collect();
        let time = self.time(self.frames);
        self.frames += 1;
        self.encoder.add_frame(&rgba, time).map_err(|error| anyhow!("cannot encode a frame of the WebP: {error:?}"))
    }

    fn finish(self: Box<Self>, file: &mut dyn Write) -> Result<()> {
        ensure!(self.frames > 0, "a film needs at least one frame");
        let end = self.time(self.frames);
        let data = self.encoder.finalize(end).map_err(|error| anyhow!("cannot finish the WebP: {error:?}"))?;
        Ok(file.write_all(&data)?)
    }
}
