//! Animated GIFs: each frame with its own 256 colours.

use std::io::Write;

use anyhow::{Context, Result, ensure};
use gif::{Encoder, Frame, Repeat};

use super::{Film, FilmShape};

/// Most frames per second: viewers show faster ones slowly.
const MOST_FPS: u32 = 50;
/// The effort of finding colours, 1 (best) to 30.
const SPEED: i32 = 10;

pub(super) struct Gif {
    encoder: Encoder<Vec<u8>>,
    shape: FilmShape,
    frames: u64,
}

impl Gif {
    pub(super) fn begin(shape: FilmShape) -> Result<Self> {
        let fps = shape.fps;
        ensure!(
            fps <= MOST_FPS,
            "a GIF has at most {MOST_FPS} frames a second, not {fps}; pass a lower --fps or an .mp4"
        );
        let mut encoder = Encoder::new(Vec::new(), shape.width as u16, shape.height as u16, &[])?;
        encoder.set_repeat(Repeat::Infinite)?;
        Ok(Self { encoder, shape, frames: 0 })
    }

    /// Returns the time of a frame in hundredths of a second, in which GIF counts.
    fn time(&self, frame: u64) -> u64 {
        (frame as f64 * 100.0 / f64::from(self.shape.fps)).round() as u64
    }
}

impl Film for Gif {
    fn add(&mut self, rgb: &[u8]) -> Result<()> {
        let mut frame = Frame::from_rgb_speed(self.shape.width as u16, self.shape.height as u16, rgb, SPEED);
        frame.delay = (self.time(self.frames + 1) - self.time(self.frames)) as u16;
        self.frames += 1;
        self.encoder.write_frame(&frame).context("cannot encode a frame of the GIF")
    }

    fn finish(self: Box<Self>, file: &mut dyn Write) -> Result<()> {
        ensure!(self.frames > 0, "a film needs at least one frame");
        Ok(file.write_all(&self.encoder.into_inner()?)?)
    }
}
