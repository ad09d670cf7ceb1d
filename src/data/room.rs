//! Memory for pictures while they are decoded: one budget for all threads, so that many large pictures at once take no
//! more than a share of what there is. The budget is fixed when the first picture is decoded.

use std::sync::{Condvar, LazyLock, Mutex, PoisonError};

use anyhow::{Result, ensure};

use crate::system::available::memory_for_this_process;

/// Divisor of the memory for this process: decoding may take 1 / SHARE of it.
const SHARE: u64 = 3;
/// Number of copies of a picture at a time: as decoded, as turned or in another colour, and as cropped.
const COPIES: u64 = 3;
/// Size with all copies below which a picture is not counted: most are smaller, and nobody waits for them.
const SMALL_BYTES: u64 = 16 << 20;

static ROOM: LazyLock<Room> = LazyLock::new(|| Room::with_bytes(memory_for_this_process() / SHARE));

struct Room {
    most: u64,
    used: Mutex<u64>,
    freed: Condvar,
}

/// A share of the budget for one picture, until it is dropped.
pub(super) struct Held<'a> {
    room: &'a Room,
    bytes: u64,
}

/// Waits until there is room for decoding a picture of so many bytes.
///
/// # Errors
/// The picture takes more than the whole budget.
pub(super) fn for_picture(decoded: u64) -> Result<Held<'static>> {
    ROOM.hold(decoded.saturating_mul(COPIES))
}

impl Room {
    fn with_bytes(most: u64) -> Self {
        Self { most, used: Mutex::new(0), freed: Condvar::new() }
    }

    fn hold(&self, bytes: u64) -> Result<Held<'_>> {
        let bytes = if bytes < SMALL_BYTES { 0 } else { bytes };
        ensure!(
            bytes <= self.most,
            "it takes {} MiB to decode, and {} MiB may be used for that here, a third of the memory that is free for this process; make it smaller",
            bytes >> 20,
            self.most >> 20
        );
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        while *used + bytes > self.most {
            used = self.freed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        *used += bytes;
        Ok(Held { room: self, bytes })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.room.used.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
        self.room.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn threads_together_stay_within_the_budget() {
        let room = Room::with_bytes(100 << 20);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..20 {
                        let _held = room.hold(40 << 20).unwrap();
                        most.fetch_max(now.fetch_add(40, Ordering::SeqCst) + 40, Ordering::SeqCst);
                        std::thread::yield_now();
                        now.fetch_sub(40, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 80);
        assert_eq!(*room.used.lock().unwrap(), 0);
    }

    #[test]
    fn two_pictures_that_fit_together_are_held_at_the_same_time() {
        let room = Room::with_bytes(100 << 20);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            let _first = room.hold(40 << 20).unwrap();
            scope.spawn(|| {
                let _second = room.hold(40 << 20).unwrap();
                sender.send(*room.used.lock().unwrap()).unwrap();
            });
            assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(80 << 20));
        });
    }

    #[test]
    fn small_pictures_do_not_wait_and_larger_ones_than_the_budget_are_refused() {
        let room = Room::with_bytes(100 << 20);
        let _all = room.hold(100 << 20).unwrap();
        let _small = room.hold(1 << 20).unwrap();
        let message = room.hold(200 << 20).map(|_| ()).unwrap_err().to_string();
        assert!(message.contains("200 MiB to decode, and 100 MiB may be used"), "{message}");
    }
}
