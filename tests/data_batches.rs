//! From a folder to batches: which files are listed, what is kept of them, the order of the stream.
// Helpers are not test functions to clippy, but they are tests all the same.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use common::picture_folder;
use image::{GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use rootgan::data::decode::decode_picture;
use rootgan::data::folder::list_images;
use rootgan::data::{Dataset, DatasetOptions, Loader, Sampler, ScanReport};

const SIDE: u32 = 16;
const PICTURE: usize = 3 * (SIDE * SIDE) as usize;

fn open(root: &Path, cache_bytes: Option<u64>) -> (Arc<Dataset>, ScanReport) {
    let options = DatasetOptions { resolution: SIDE, channels: 3, cache_bytes, ..DatasetOptions::default() };
    let (dataset, report) = Dataset::open(root, &options).unwrap_or_else(|error| panic!("{error:#}"));
    (Arc::new(dataset), report)
}

fn cut_in_half(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

/// Writes empty files, with the folders around them.
fn touch(root: &Path, names: &[&str]) {
    for name in names {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
}

fn listed(root: &Path) -> Vec<String> {
    list_images(root).unwrap().0.iter().map(|path| path.to_str().unwrap().to_owned()).collect()
}

/// What the stream holds at `positions`, picture by picture, without a loader.
fn stream(dataset: &Dataset, mut sampler: Sampler, positions: Range<u64>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for position in positions {
        let (index, flipped) = sampler.item(position);
        let mut picture = vec![0; PICTURE];
        dataset.read_into(index, &mut picture).unwrap();
        for row in picture.chunks_mut(SIDE as usize) {
            if flipped {
                row.reverse();
            }
            bytes.extend_from_slice(row);
        }
    }
    bytes
}

/// Takes `count` batches of `batch` pictures from `start` on.
fn load(dataset: &Arc<Dataset>, sampler: &Sampler, batch: usize, start: u64, count: usize) -> Vec<u8> {
    let mut loader = Loader::new(Arc::clone(dataset), sampler.clone(), batch, start, 2).unwrap();
    let batches: Vec<Vec<u8>> = (0..count).map(|_| loader.next().unwrap().pixels).collect();
    assert!(batches.iter().all(|bytes| bytes.len() == batch * PICTURE));
    batches.concat()
}

/// Runs `work` on a thread and fails, rather than hang, if it does not end.
fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(Duration::from_secs(60)).expect("it ends within a minute and does not panic")
}

#[test]
fn pictures_are_listed_at_any_depth_sorted_by_bytes_and_hidden_ones_passed_over() {
    let place = tempfile::tempdir().unwrap();
    let shown = ["B.gif", "a-1.PNG", "a/b/deep.tif", "a/z.jpg", "b.webp", "c.jpeg", "d.bmp", "e.tiff"];
    touch(place.path(), &["e.tiff", "b.webp", "a/z.jpg", "B.gif", "a/b/deep.tif", "d.bmp", "c.jpeg", "a-1.PNG"]);
    touch(place.path(), &[".a.png", "._b.webp", ".git/x.png", "a/.thumbs/x.jpg", "__MACOSX/y.png", "a/notes.txt", "c"]);
    assert_eq!(listed(place.path()), shown);
}

#[test]
fn a_hidden_folder_that_is_asked_for_itself_is_listed() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join(".pictures");
    touch(&root, &["a.png"]);
    assert_eq!(listed(&root), ["a.png"]);
}

#[test]
fn links_are_followed_and_a_loop_of_them_ends() {
    let place = tempfile::tempdir().unwrap();
    let (root, other) = (place.path().join("root"), place.path().join("other"));
    touch(&root, &["a.png", "deep/b.png"]);
    touch(&other, &["c.png"]);
    symlink(&root, root.join("deep/again")).unwrap();
    symlink(".", root.join("self")).unwrap();
    symlink(&other, root.join("linked")).unwrap();
    let found = in_time(move || listed(&root));
    assert_eq!(found, ["a.png", "deep/b.png", "linked/c.png"]);
}

#[test]
fn a_dangling_link_is_listed_and_reported_unless_it_is_hidden() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 10, 20);
    symlink("nowhere.png", place.path().join("gone.png")).unwrap();
    symlink("nobody@nowhere.1:2", place.path().join(".#picture000.png")).unwrap();
    symlink("nowhere.txt", place.path().join("notes.txt")).unwrap();
    assert_eq!(listed(place.path()).len(), 11);
    let (dataset, report) = open(place.path(), None);
    assert_eq!((report.total, report.usable, dataset.len()), (11, 10, 10));
    let (path, reason) = &report.unreadable[0];
    assert_eq!(*path, place.path().join("gone.png"));
    assert!(reason.contains("No such file"), "{reason}");
}

#[test]
fn the_report_counts_and_names_what_is_odd() {
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    picture_folder(place.path(), 18, 20);
    cut_in_half(&path("picture007.png"));
    GrayImage::from_pixel(20, 20, Luma([7])).save(path("grey.png")).unwrap();
    RgbaImage::from_pixel(20, 20, Rgba([1, 2, 3, 100])).save(path("clear.png")).unwrap();
    ImageBuffer::from_pixel(20, 20, Rgb([1_u16, 2, 3])).save(path("deep.png")).unwrap();
    RgbImage::from_pixel(9, 30, Rgb([1, 2, 3])).save(path("small.png")).unwrap();
    let (dataset, report) = open(place.path(), None);
    let counts = (report.grey, report.alpha, report.sixteen_bit, report.upscaled);
    assert_eq!((report.total, report.usable, report.cached, counts), (22, 21, 21, (1, 1, 1, 1)));
    assert!(dataset.is_fully_cached() && dataset.len() == 21);
    let summary = report.summary().join("\n");
    let lines = [
        "pictures: 21 of 22 usable, as 16x16 RGB\n  all kept in memory (1 MiB)\n",
        "  1 grey, repeated to RGB\n  1 transparent, laid over white\n  1 of 16 bits, rounded to 8\n",
        "  1 smaller than that, enlarged\n  1 unreadable, skipped:\n",
    ];
    assert!(summary.starts_with(&lines.concat()), "{summary}");
    assert!(summary.contains("picture007.png: unexpected end of file"), "{summary}");
}

#[test]
fn a_tenth_may_be_unreadable_and_more_is_an_error_that_names_the_first() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 10, 20);
    cut_in_half(&place.path().join("picture003.png"));
    assert_eq!(open(place.path(), None).1.usable, 9);
    fs::remove_file(place.path().join("picture009.png")).unwrap();
    let options = DatasetOptions { resolution: SIDE, channels: 3, ..DatasetOptions::default() };
    let message = Dataset::open(place.path(), &options).err().unwrap().to_string();
    assert!(message.contains("1 of 9 are unreadable") && message.contains("picture003.png"), "{message}");
}

#[test]
fn kept_pictures_are_the_same_as_decoded_ones_behind_an_unreadable_one_too() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 12, 24);
    cut_in_half(&place.path().join("picture001.png"));
    for (room, cached) in [(0, 0), (4, 3), (100, 11)] {
        let (dataset, report) = open(place.path(), Some(room * PICTURE as u64));
        assert_eq!((report.cached, dataset.is_fully_cached()), (cached, cached == 11));
        for index in 0..dataset.len() {
            let mut picture = vec![0; PICTURE];
            dataset.read_into(index, &mut picture).unwrap();
            assert_eq!(picture, decode_picture(&dataset.place(index), SIDE, 3).unwrap().0, "{index} with {cached}");
        }
    }
}

#[test]
fn every_picture_comes_once_an_epoch_and_with_xflip_once_each_way() {
    for (xflip, items) in [(false, 7), (true, 14)] {
        let mut sampler = Sampler::new(7, xflip, 3);
        for epoch in 0..4 {
            let seen: BTreeSet<_> = (epoch * items..(epoch + 1) * items).map(|at| sampler.item(at)).collect();
            let expected: BTreeSet<_> = (0..items as usize).map(|item| (item % 7, item >= 7)).collect();
            assert_eq!(seen, expected, "epoch {epoch}");
        }
    }
}

#[test]
fn what_comes_at_a_position_depends_on_nothing_but_the_position() {
    let mut sampler = Sampler::new(5, true, 8);
    let in_order: Vec<_> = (0..40).map(|at| sampler.item(at)).collect();
    let mut backwards: Vec<_> = (0..40).rev().map(|at| sampler.item(at)).collect();
    backwards.reverse();
    assert_eq!(backwards, in_order);
    let fresh: Vec<_> = (0..40).map(|at| Sampler::new(5, true, 8).item(at)).collect();
    assert_eq!(fresh, in_order);
}

#[test]
fn pictures_in_their_own_order_repeat_it() {
    let mut sampler = Sampler::in_order(3);
    let items: Vec<_> = (0..7).map(|at| sampler.item(at)).collect();
    assert_eq!(items, [0, 1, 2, 0, 1, 2, 0].map(|index| (index, false)));
}

#[test]
fn epochs_and_seeds_differ_in_order() {
    let epoch = |seed: u64, epoch: u64| -> Vec<_> {
        let mut sampler = Sampler::new(50, false, seed);
        (epoch * 50..(epoch + 1) * 50).map(|at| sampler.item(at).0).collect()
    };
    let orders: BTreeSet<Vec<usize>> = [epoch(0, 0), epoch(0, 1), epoch(1, 0), epoch(1, 1)].into();
    assert_eq!(orders.len(), 4);
    assert!(!orders.contains(&(0..50).collect::<Vec<usize>>()), "none is the order of the folder");
}

#[test]
fn batches_are_what_sampler_and_data_set_say_and_streamed_ones_are_the_same() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 7, 24);
    let sampler = Sampler::new(7, true, 5);
    let (kept, streamed) = (open(place.path(), None).0, open(place.path(), Some(0)).0);
    assert!(kept.is_fully_cached() && !streamed.is_fully_cached());
    // Three epochs of 14, in batches that do not divide them.
    let expected = stream(&kept, sampler.clone(), 0..44);
    assert!(load(&kept, &sampler, 4, 0, 11) == expected, "kept in memory");
    assert!(load(&streamed, &sampler, 4, 0, 11) == expected, "streamed");
    let plain = stream(&kept, Sampler::new(7, false, 5), 0..7);
    let differing: BTreeSet<&[u8]> = expected.chunks(PICTURE).collect();
    assert_eq!(differing.len(), 14, "each picture and its mirror image");
    assert!(plain.chunks(PICTURE).all(|picture| differing.contains(picture)));
}

#[test]
fn a_loader_that_starts_later_goes_on_in_the_same_stream() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 5, 20);
    let (dataset, _) = open(place.path(), None);
    let sampler = Sampler::new(5, true, 2);
    let whole = load(&dataset, &sampler, 3, 0, 10);
    for start in [3, 12, 17] {
        let rest = load(&dataset, &sampler, 3, start, 4);
        let begin = start as usize * PICTURE;
        assert!(rest == whole[begin..begin + rest.len()], "from {start}");
    }
}

#[test]
fn a_picture_deleted_while_streaming_is_named_with_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 6, 20);
    let (dataset, _) = open(place.path(), Some(0));
    let gone = dataset.place(3);
    fs::remove_file(&gone).unwrap();
    let (first, second) = in_time(move || {
        let mut loader = Loader::new(dataset, Sampler::new(6, false, 1), 2, 0, 1).unwrap();
        // The first epoch, three batches, holds every picture.
        let first = (0..3).find_map(|_| loader.next().err()).unwrap();
        (format!("{first:#}"), loader.next().unwrap_err().to_string())
    });
    assert!(first.contains(gone.to_str().unwrap()) && first.contains("put it back and resume"), "{first}");
    assert!(second.contains("no more batches"), "{second}");
}

#[test]
fn a_picture_replaced_while_streaming_is_named_and_not_trained_on() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 6, 20);
    let (dataset, _) = open(place.path(), Some(0));
    let mut pixels = vec![0; PICTURE];
    dataset.read_into(3, &mut pixels).unwrap();
    fs::copy(dataset.place(2), dataset.place(3)).unwrap();
    let message = format!("{:#}", dataset.read_into(3, &mut pixels).unwrap_err());
    let place = dataset.place(3);
    assert!(message.contains(place.to_str().unwrap()) && message.contains("another one now"), "{message}");
}

#[test]
fn a_loader_that_is_dropped_ends_whether_or_not_its_batches_were_taken() {
    let place = tempfile::tempdir().unwrap();
    picture_folder(place.path(), 6, 20);
    for cache_bytes in [None, Some(0)] {
        let (dataset, _) = open(place.path(), cache_bytes);
        let owners = in_time(move || {
            for taken in [0, 1, 5] {
                let mut loader = Loader::new(Arc::clone(&dataset), Sampler::new(6, true, 1), 4, 0, 1).unwrap();
                (0..taken).for_each(|_| assert_eq!(loader.next().unwrap().pixels.len(), 4 * PICTURE));
            }
            Arc::strong_count(&dataset)
        });
        assert_eq!(owners, 1, "no thread is left that holds the pictures");
    }
}
