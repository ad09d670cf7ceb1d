//! Films: pictures one after the other in a file that browsers play. The name's ending chooses MP4 (H.264), GIF or WebP.
//!
//! Encoded frames are kept in memory until the end, some 100 KB a second at 256x256; pictures are not.

mod gif;
mod mp4;
mod webp;

use std::io::Write;
use std::path::Path;

use anyhow::{Result, bail, ensure};

/// Most pixels of a side; H.264 encoders and browsers go no further.
const MOST_SIDE: usize = 4096;

/// The kinds of films.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilmKind {
    /// H.264 in MP4.
    Mp4,
    /// An animated GIF of 256 colours a frame.
    Gif,
    /// An animated WebP.
    WebP,
}

impl FilmKind {
    /// Returns the kind by the ending of a file's name.
    ///
    /// # Errors
    /// The ending is none of them.
    pub fn of(path: &Path) -> Result<Self> {
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        match ending.as_deref() {
            Some("mp4") => Ok(Self::Mp4),
            Some("gif") => Ok(Self::Gif),
            Some("webp") => Ok(Self::WebP),
            _ => bail!("cannot write the film '{}': pass a name that ends in .mp4, .gif or .webp", path.display()),
        }
    }
}

/// The size and the speed of a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilmShape {
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Frames per second.
    pub fps: u32,
}

/// A film in the making.
pub trait Film {
    /// Adds a frame: `height x width x 3` bytes, interleaved.
    ///
    /// # Errors
    /// The encoder fails.
    fn add(&mut self, rgb: &[u8]) -> Result<()>;

    /// Writes the whole film.
    ///
    /// # Errors
    /// No frame was added, or the file cannot be written.
    fn finish(self: Box<Self>, file: &mut dyn Write) -> Result<()>;
}

/// Begins a film; the same frames give the same bytes.
///
/// # Errors
/// A size or speed that this kind of film cannot have.
pub fn begin(kind: FilmKind, shape: FilmShape) -> Result<Box<dyn Film>> {
    let FilmShape { width, height, fps } = shape;
    ensure!(
        (2..=MOST_SIDE).contains(&width) && (2..=MOST_SIDE).contains(&height),
        "cannot make a film of {width}x{height} pixels; a side has 2 to {MOST_SIDE}: pass a smaller --scale or --grid"
    );
    ensure!((1..=120).contains(&fps), "cannot make a film of {fps} frames a second; pass an --fps from 1 to 120");
    match kind {
        FilmKind::Mp4 => Ok(Box::new(mp4::Mp4::begin(shape)?)),
        FilmKind::Gif => Ok(Box::new(gif::Gif::begin(shape)?)),
        FilmKind::WebP => Ok(Box::new(webp::WebP::begin(shape)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: FilmShape = FilmShape { width: 32, height: 16, fps: 25 };

    /// Frames of one colour each, which get lighter.
    fn film(kind: FilmKind) -> Vec<u8> {
        let mut film = begin(kind, SHAPE).unwrap();
        for value in 0..10u8 {
            let frame: Vec<u8> = [40, 80 + 10 * value, 200].repeat(SHAPE.width * SHAPE.height);
            film.add(&frame).unwrap();
        }
        let mut bytes = Vec::new();
        film.finish(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn the_same_frames_give_the_same_bytes() {
        for kind in [FilmKind::Mp4, FilmKind::Gif, FilmKind::WebP] {
            assert_eq!(film(kind), film(kind), "{kind:?}");
        }
    }

    #[test]
    fn a_gif_has_all_frames_at_their_times_and_colours() {
        use image::AnimationDecoder;
        let bytes = film(FilmKind::Gif);
        let decoder = image::codecs::gif::GifDecoder::new(std::io::Cursor::new(&bytes)).unwrap();
        let frames = decoder.into_frames().collect_frames().unwrap();
        assert_eq!(frames.len(), 10);
        let total: f64 = frames
            .iter()
            .map(|frame| f64::from(frame.delay().numer_denom_ms().0) / f64::from(frame.delay().numer_denom_ms().1))
            .sum();
        assert!((total - 400.0).abs() < 1.0, "{total} ms");
        let pixel = frames[3].buffer().get_pixel(5, 5).0;
        assert_eq!(pixel, [40, 110, 200, 255]);
    }

    #[test]
    fn a_webp_has_all_frames() {
        use image::AnimationDecoder;
        let bytes = film(FilmKind::WebP);
        let decoder = image::codecs::webp::WebPDecoder::new(std::io::Cursor::new(&bytes)).unwrap();
        let frames = decoder.into_frames().collect_frames().unwrap();
        assert_eq!(frames.len(), 10);
        let pixel = frames[3].buffer().get_pixel(5, 5).0;
        for (found, wanted) in pixel.iter().zip([40u8, 110, 200]) {
            assert!(found.abs_diff(wanted) <= 4, "{pixel:?}");
        }
    }

    #[test]
    fn what_a_film_cannot_be_is_said() {
        let message = |kind, shape| begin(kind, shape).err().unwrap().to_string();
        assert!(message(FilmKind::Mp4, FilmShape { width: 33, ..SHAPE }).contains("even"));
        assert!(message(FilmKind::Gif, FilmShape { fps: 60, ..SHAPE }).contains("50"));
        assert!(message(FilmKind::Mp4, FilmShape { fps: 0, ..SHAPE }).contains("--fps"));
        assert!(message(FilmKind::Mp4, FilmShape { width: 8192, ..SHAPE }).contains("4096"));
        assert!(FilmKind::of(Path::new("a.avi")).unwrap_err().to_string().contains(".mp4, .gif or .webp"));
        assert_eq!(FilmKind::of(Path::new("a.GIF")).unwrap(), FilmKind::Gif);
    }

    #[test]
    fn a_film_without_frames_is_refused() {
        for kind in [FilmKind::Mp4, FilmKind::Gif, FilmKind::WebP] {
            assert!(begin(kind, SHAPE).unwrap().finish(&mut Vec::new()).is_err(), "{kind:?}");
        }
    }
}
