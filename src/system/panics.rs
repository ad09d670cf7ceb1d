//! Keeps the places of panics until somebody tells of them, in a run's log or, with `-v`, on the terminal. Plain tensor
//! operators panic where libtorch refuses, and most panics become errors that say what a user can do, so a panic is not
//! printed as it happens.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::PanicHookInfo;

use super::ui::{is_verbose, say};

thread_local! {
    static LAST: RefCell<Option<PanicPlace>> = const { RefCell::new(None) };
}

/// The place of a panic.
#[derive(Debug)]
pub struct PanicPlace {
    /// The file, line and column, as in `src/model/flat.rs:31:9`.
    place: String,
    /// The calls that led to the place.
    backtrace: Backtrace,
}

impl PanicPlace {
    /// Describes the place, and the calls that led there on lines of their own.
    pub fn describe(&self) -> String {
        format!("it happened at {}; called from:\n{}", self.place, self.backtrace)
    }
}

/// Keeps the places of panics from now on, instead of printing them; with `-v` they are printed as well.
pub fn keep_places() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        let found = PanicPlace { place, backtrace: Backtrace::force_capture() };
        if is_verbose() && !is_closed_pipe(info) {
            say(format!("a panic, which may become an error: {}; {}", panic_text(info.payload()), found.describe()));
        }
        LAST.with(|last| *last.borrow_mut() = Some(found));
    }));
}

/// Takes out the place of this thread's last panic; a second call gives None.
pub fn take_place() -> Option<PanicPlace> {
    LAST.with(RefCell::take)
}

/// Whether the panic is a failure to print, as to a pipe that is closed: whoever closed it has seen enough (`rootgan
/// inspect FILE | head`).
fn is_closed_pipe(info: &PanicHookInfo<'_>) -> bool {
    panic_text(info.payload()).starts_with("failed printing to")
}

/// Returns the message of a panic.
pub fn panic_text(payload: &(dyn Any + Send)) -> &str {
    let fixed = payload.downcast_ref::<&str>().copied();
    fixed.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
