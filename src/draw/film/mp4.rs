//! H.264 in MP4, with the table of contents before the frames, so that a browser can begin before it has all.

use std::io::Write;
use std::num::NonZeroU32;

use anyhow::{Context, Result, anyhow, ensure};
use openh264::OpenH264API;
use openh264::encoder::{
    Encoder, EncoderConfig, FrameRate, FrameType, IntraFramePeriod, MatrixCoefficients, QpRange, RateControlMode,
    VuiConfig,
};
use openh264::formats::{RgbSliceU8, YUVBuffer};
use shiguredo_mp4::TrackKind;
use shiguredo_mp4::Uint;
use shiguredo_mp4::boxes::{Avc1Box, AvccBox, SampleEntry, VisualSampleEntryFields};
use shiguredo_mp4::mux::{Mp4FileMuxer, Mp4FileMuxerOptions, Sample, estimate_maximum_moov_box_size};

use super::{Film, FilmShape};

/// The step of the coefficients, 0 (finest) to 51, the same for all frames: 18 is hardly to be told from the original.
const QP: QpRange = QpRange::new(18, 18);
/// Types of NAL units: parameter sets go to the head of the file.
const SEQUENCE_PARAMETERS: u8 = 7;
const PICTURE_PARAMETERS: u8 = 8;

/// An encoded frame: its NAL units, each after its length.
struct EncodedFrame {
    bytes: Vec<u8>,
    is_key: bool,
}

pub(super) struct Mp4 {
    encoder: Encoder,
    shape: FilmShape,
    sequence_parameters: Vec<u8>,
    picture_parameters: Vec<u8>,
    frames: Vec<EncodedFrame>,
}

impl Mp4 {
    pub(super) fn begin(shape: FilmShape) -> Result<Self> {
        let FilmShape { width, height, fps } = shape;
        ensure!(
            width.is_multiple_of(2) && height.is_multiple_of(2),
            "an MP4 has an even width and height, not {width}x{height}; pass an even --scale, or a .gif or .webp"
        );
        let config = EncoderConfig::new()
            .max_frame_rate(FrameRate::from_hz(fps as f32))
            .rate_control_mode(RateControlMode::Off)
            .qp(QP)
            .skip_frames(false)
            // A player that seeks begins at the key frame before: at most a second away.
            .intra_frame_period(IntraFramePeriod::from_num_frames(fps))
            // More threads cut frames into slices, and the bytes would depend on the machine.
            .num_threads(1)
            // The matrix that RGB is converted by below; the colours themselves are a screen's.
            .vui(VuiConfig::bt709().matrix_coefficients(MatrixCoefficients::Smpte170M));
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), config).context("cannot begin the MP4")?;
        Ok(Self { encoder, shape, sequence_parameters: vec![], picture_parameters: vec![], frames: vec![] })
    }

    /// Returns what a player has to know about the frames before the first one.
    fn sample_entry(&self) -> Result<SampleEntry> {
        let [_, profile, compatibility, level, ..] = self.sequence_parameters[..] else {
            return Err(anyhow!("the encoder has given no parameters"));
        };
        Ok(SampleEntry::Avc1(Avc1Box {
            visual: VisualSampleEntryFields {
                data_reference_index: VisualSampleEntryFields::DEFAULT_DATA_REFERENCE_INDEX,
                width: self.shape.width as u16,
                height: self.shape.height as u16,
                horizresolution: VisualSampleEntryFields::DEFAULT_HORIZRESOLUTION,
                vertresolution: VisualSampleEntryFields::DEFAULT_VERTRESOLUTION,
                frame_count: VisualSampleEntryFields::DEFAULT_FRAME_COUNT,
                compressorname: VisualSampleEntryFields::NULL_COMPRESSORNAME,
                depth: VisualSampleEntryFields::DEFAULT_DEPTH,
            },
            avcc_box: AvccBox {
                avc_profile_indication: profile,
                profile_compatibility: compatibility,
                avc_level_indication: level,
                length_size_minus_one: Uint::new(3),
                sps_list: vec![self.sequence_parameters.clone()],
                pps_list: vec![self.picture_parameters.clone()],
                chroma_format: None,
                bit_depth_luma_minus8: None,
                bit_depth_chroma_minus8: None,
                sps_ext_list: vec![],
            },
            unknown_boxes: vec![],
        }))
    }
}

impl Film for Mp4 {
    fn add(&mut self, rgb: &[u8]) -> Result<()> {
        let FilmShape { width, height, .. } = self.shape;
        let yuv = YUVBuffer::from_rgb8_source(RgbSliceU8::new(rgb, (width, height)));
        let stream = self.encoder.encode(&yuv).context("cannot encode a frame of the MP4")?;
        let is_key = matches!(stream.frame_type(), FrameType::IDR | FrameType::I);
        let mut bytes = Vec::new();
        for layer in (0..stream.num_layers()).filter_map(|index| stream.layer(index)) {
            for unit in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                let unit = without_start_code(unit);
                match unit.first().map(|head| head & 0x1f) {
                    Some(SEQUENCE_PARAMETERS) => self.sequence_parameters = unit.to_vec(),
                    Some(PICTURE_PARAMETERS) => self.picture_parameters = unit.to_vec(),
                    _ => {
                        bytes.extend((unit.len() as u32).to_be_bytes());
                        bytes.extend(unit);
                    }
                }
            }
        }
        ensure!(!bytes.is_empty(), "the encoder of the MP4 left a frame out");
        self.frames.push(EncodedFrame { bytes, is_key });
        Ok(())
    }

    fn finish(self: Box<Self>, file: &mut dyn Write) -> Result<()> {
        ensure!(!self.frames.is_empty(), "a film needs at least one frame");
        let mut muxer = Mp4FileMuxer::with_options(Mp4FileMuxerOptions {
            reserved_moov_box_size: estimate_maximum_moov_box_size(&[self.frames.len()]),
            ..Mp4FileMuxerOptions::default()
        })
        .map_err(|error| anyhow!("cannot begin the MP4: {error}"))?;
        let mut film = muxer.initial_boxes_bytes().to_vec();
        let mut sample_entry = Some(self.sample_entry()?);
        for EncodedFrame { bytes, is_key } in &self.frames {
            let sample = Sample {
                track_kind: TrackKind::Video,
                sample_entry: sample_entry.take(),
                keyframe: *is_key,
                timescale: NonZeroU32::new(self.shape.fps).context("no frames a second")?,
                duration: 1,
                composition_time_offset: None,
                data_offset: film.len() as u64,
                data_size: bytes.len(),
            };
            film.extend(bytes);
            muxer.append_sample(&sample).map_err(|error| anyhow!("cannot add a frame to the MP4: {error}"))?;
        }
        let boxes = muxer.finalize().map_err(|error| anyhow!("cannot finish the MP4: {error}"))?;
        for (offset, bytes) in boxes.offset_and_bytes_pairs() {
            let (from, to) = (offset as usize, offset as usize + bytes.len());
            film.resize(film.len().max(to), 0);
            film[from..to].copy_from_slice(bytes);
        }
        Ok(file.write_all(&film)?)
    }
}

/// Cuts the zeros and the one that begin a NAL unit in a stream.
fn without_start_code(unit: &[u8]) -> &[u8] {
    let zeros = unit.iter().take_while(|&&byte| byte == 0).count();
    if unit.get(zeros) == Some(&1) { &unit[zeros + 1..] } else { unit }
}

#[cfg(test)]
mod tests {
    use openh264::decoder::Decoder;
    use openh264::formats::YUVSource;
    use shiguredo_mp4::demux::{Input, Mp4FileDemuxer};

    use super::*;

    const SHAPE: FilmShape = FilmShape { width: 64, height: 32, fps: 25 };

    fn film(colours: &[[u8; 3]]) -> Vec<u8> {
        let mut film = Box::new(Mp4::begin(SHAPE).unwrap());
        colours.iter().for_each(|colour| film.add(&colour.repeat(SHAPE.width * SHAPE.height)).unwrap());
        let mut bytes = Vec::new();
        film.finish(&mut bytes).unwrap();
        bytes
    }

    /// Takes the file apart by the muxer's counterpart, and decodes it.
    fn decoded(film: &[u8]) -> (f64, Vec<[u8; 3]>) {
        let mut demuxer = Mp4FileDemuxer::new();
        while let Some(required) = demuxer.required_input() {
            let from = required.position as usize;
            let to = required.size.map_or(film.len(), |size| (from + size).min(film.len()));
            demuxer.handle_input(Input { position: required.position, data: &film[from..to] });
        }
        let mut decoder = Decoder::new().unwrap();
        let (mut seconds, mut colours, mut parameters) = (0.0, Vec::new(), Vec::new());
        while let Some(sample) = demuxer.next_sample().unwrap() {
            if let Some(SampleEntry::Avc1(entry)) = sample.sample_entry {
                for unit in entry.avcc_box.sps_list.iter().chain(&entry.avcc_box.pps_list) {
                    parameters.extend([0, 0, 0, 1]);
                    parameters.extend(unit);
                }
            }
            seconds += f64::from(sample.duration) / f64::from(sample.track.timescale.get());
            let from = sample.data_offset as usize;
            let mut rest = &film[from..from + sample.data_size];
            let mut stream = std::mem::take(&mut parameters);
            while let Some((length, after)) = rest.split_first_chunk::<4>() {
                let (unit, next) = after.split_at(u32::from_be_bytes(*length) as usize);
                stream.extend([0, 0, 0, 1]);
                stream.extend(unit);
                rest = next;
            }
            let picture = decoder.decode(&stream).unwrap().unwrap();
            let (width, height) = picture.dimensions();
            assert_eq!((width, height), (SHAPE.width, SHAPE.height));
            let mut rgb = vec![0; width * height * 3];
            picture.write_rgb8(&mut rgb);
            let middle = 3 * (width * height / 2 + width / 2);
            colours.push([rgb[middle], rgb[middle + 1], rgb[middle + 2]]);
        }
        (seconds, colours)
    }

    #[test]
    fn the_frames_come_back_in_their_colours_and_time() {
        let wanted: Vec<[u8; 3]> = (0..60u8).map(|frame| [40 + 2 * frame, 200 - 2 * frame, 90]).collect();
        let (seconds, found) = decoded(&film(&wanted));
        assert!((seconds - 60.0 / 25.0).abs() < 1e-9, "{seconds} s");
        assert_eq!(found.len(), wanted.len());
        for (found, wanted) in found.iter().zip(&wanted) {
            let furthest = found.iter().zip(wanted).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(furthest <= 6, "{found:?} for {wanted:?}");
        }
    }

    #[test]
    fn the_table_of_contents_comes_before_the_frames() {
        let film = film(&[[10, 20, 30]; 5]);
        let place = |name: &[u8; 4]| film.windows(4).position(|window| window == name).unwrap();
        assert!(place(b"moov") < place(b"mdat"));
    }
}
