//! Writes to the terminal: a bar while something long runs (few plain lines where stderr is no terminal), remarks and
//! warnings by verbosity. Text from files of others is made harmless before it is shown.
//!
//! Progress and remarks go to stderr, and a closed stderr stops nothing.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// The time in which at most one line is written where stderr is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The time below which work leaves no trace when it is finished.
const WORTH_MENTIONING: Duration = Duration::from_secs(2);

/// The progress of one long task. Threads share it by reference.
pub struct Bar {
    begun: Instant,
    shown: Shown,
}

enum Shown {
    Terminal(ProgressBar),
    Lines(Mutex<Lines>),
    Nothing,
}

impl Bar {
    /// Begins a bar for `len` items; `what` is being done, such as "reading pictures".
    pub fn new(len: u64, what: &str) -> Self {
        Self::with_interval(len, what, LINE_INTERVAL)
    }

    /// Begins a bar as [`Bar::new`] does, with at most one line in `interval` where stderr is no terminal.
    pub fn with_interval(len: u64, what: &str, interval: Duration) -> Self {
        Self::begin(Lines::new(len, what, interval), style(ITEMS))
    }

    /// Begins a bar for `len` bytes, 0 where their number is not known.
    pub fn of_bytes(len: u64, what: &str) -> Self {
        Self::begin(Lines { unit: Unit::Bytes, ..Lines::new(len, what, LINE_INTERVAL) }, style(BYTES))
    }

    fn begin(lines: Lines, style: ProgressStyle) -> Self {
        let shown = if is_quiet() {
            Shown::Nothing
        } else if std::io::stderr().is_terminal() {
            Shown::Terminal(ProgressBar::new(lines.len).with_style(style).with_prefix(lines.what))
        } else {
            Shown::Lines(Mutex::new(lines))
        };
        Self { begun: Instant::now(), shown }
    }

    /// Counts `n` items as done before, at the beginning or after going back: neither they nor the time until now are a part of
    /// the speed.
    pub fn begin_at(&self, n: u64) {
        match &self.shown {
            Shown::Terminal(bar) => {
                bar.set_position(n);
                bar.reset_eta();
            }
            Shown::Lines(lines) => {
                locked(lines).begin_at(n, self.begun.elapsed());
            }
            Shown::Nothing => {}
        }
    }

    /// Counts `n` more items as done.
    pub fn inc(&self, n: u64) {
        match &self.shown {
            Shown::Terminal(bar) => bar.inc(n),
            Shown::Lines(lines) => {
                if let Some(line) = locked(lines).advance(n, self.begun.elapsed()) {
                    say(line);
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Sets the remark behind the numbers.
    pub fn set_message(&self, message: impl Into<String>) {
        match &self.shown {
            Shown::Terminal(bar) => bar.set_message(message.into()),
            Shown::Lines(lines) => locked(lines).message = message.into(),
            Shown::Nothing => {}
        }
    }

    /// Shows a line above the bar.
    pub fn println(&self, line: impl Display) {
        match &self.shown {
            Shown::Terminal(bar) => bar.suspend(|| say(line)),
            Shown::Lines(_) | Shown::Nothing => say(line),
        }
    }

    /// Ends the bar where it stands. What took under two seconds leaves no trace. A bar that is dropped instead, as
    /// upon an error, disappears.
    pub fn finish(&self) {
        let elapsed = self.begun.elapsed();
        match &self.shown {
            Shown::Terminal(bar) if elapsed < WORTH_MENTIONING => bar.finish_and_clear(),
            Shown::Terminal(bar) => bar.abandon(),
            Shown::Lines(lines) => {
                if let Some(line) = locked(lines).finish(elapsed) {
                    say(line);
                }
            }
            Shown::Nothing => {}
        }
    }
}

/// How much is told besides results and errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Warnings alone are told.
    Quiet,
    /// Warnings, remarks and progress are told.
    #[default]
    Normal,
    /// Durations and the places of panics are told as well.
    Verbose,
}

static VERBOSITY: AtomicU8 = AtomicU8::new(Verbosity::Normal as u8);

/// Sets how much is told, for the whole program.
pub fn set_verbosity(verbosity: Verbosity) {
    VERBOSITY.store(verbosity as u8, Ordering::Relaxed);
}

/// Whether the verbosity is [`Verbosity::Verbose`].
pub fn is_verbose() -> bool {
    VERBOSITY.load(Ordering::Relaxed) == Verbosity::Verbose as u8
}

fn is_quiet() -> bool {
    VERBOSITY.load(Ordering::Relaxed) == Verbosity::Quiet as u8
}

/// Writes a remark to stderr, made [`harmless`]; when quiet, only one that begins with `warning: `.
pub fn say(line: impl Display) {
    let line = line.to_string();
    if !is_quiet() || line.starts_with("warning: ") {
        complain(line);
    }
}

/// Writes a detail to stderr, made [`harmless`], but only when verbose.
pub fn detail(line: impl Display) {
    if is_verbose() {
        complain(line);
    }
}

/// Writes a line to stderr, made [`harmless`], whatever the verbosity.
pub fn complain(line: impl Display) {
    // Whoever closed stderr does not want to know.
    let _ = writeln!(std::io::stderr(), "{}", harmless(&line.to_string()));
}

/// Makes text safe to print: names and descriptions in files of others can be anything. Characters that move the
/// cursor, change colours or turn the direction of letters are shown by their numbers; breaks of lines stay.
pub fn harmless(text: &str) -> String {
    escaped(text, |character| character != '\n')
}

/// Makes text safe to print as [`harmless`] does, and keeps it on one line: breaks of lines are shown by their numbers
/// too.
pub fn on_one_line(text: &str) -> String {
    escaped(text, |_| true)
}

fn escaped(text: &str, may_be: impl Fn(char) -> bool) -> String {
    let mut line = String::with_capacity(text.len());
    for character in text.chars() {
        match (character.is_control() || is_invisible(character)) && may_be(character) {
            true => line.extend(character.escape_default()),
            false => line.push(character),
        }
    }
    line
}

/// Whether a character is a mark of direction, a break of lines or without width.
fn is_invisible(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Returns a command line that can be pasted into a shell, whatever is in its words; the parts of a path that are not
/// UTF-8 are lost.
pub fn shell_command<'a>(words: impl IntoIterator<Item = &'a OsStr>) -> String {
    let quoted = words.into_iter().map(|word| {
        let word = word.to_string_lossy().into_owned();
        if word.chars().any(|character| character.is_control() || is_invisible(character)) {
            return escaped_for_bash(&word);
        }
        // Only zero bytes are refused, which no path has.
        shlex::try_quote(&word).map(|quoted| quoted.into_owned()).unwrap_or(word)
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// Quotes a word with characters that a terminal would act on, as `$'a\nb'`, which bash, zsh and ksh read.
fn escaped_for_bash(word: &str) -> String {
    let mut text = String::from("$'");
    for character in word.chars() {
        match character {
            '\'' | '\\' => text.extend(['\\', character]),
            character if character.is_control() || is_invisible(character) => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    text.push_str(&format!("\\x{byte:02x}"));
                }
            }
            character => text.push(character),
        }
    }
    text + "'"
}

/// Cuts the middle out of a long text that nobody would read: a file can have values of megabytes.
pub fn shortened(text: &str) -> String {
    const MOST: usize = 2000;
    const END: usize = 500;
    let count = text.chars().count();
    if count <= MOST {
        return text.to_owned();
    }
    let (begin, end): (String, String) =
        (text.chars().take(MOST - END).collect(), text.chars().skip(count - END).collect());
    format!("{begin} [...] {end}")
}

/// Formats a duration as the StyleGAN tools print it: `43s`, `2m 43s`, `1h 02m 43s`, `2d 01h 02m`.
pub fn duration_text(duration: Duration) -> String {
    let seconds = duration.as_secs_f64().round() as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h {:02}m {:02}s", minutes % 60, seconds % 60),
        _ => format!("{days}d {:02}h {:02}m", hours % 24, minutes % 60),
    }
}

/// Decides which plain lines of progress are written, and when. It has no clock of its own: callers give the time.
struct Lines {
    what: String,
    message: String,
    done: u64,
    /// Those of the items that were done before the count of the speed began.
    before: u64,
    /// The time at which that count began.
    since: Duration,
    len: u64,
    interval: Duration,
    said: Duration,
    finished: bool,
    unit: Unit,
}

/// The unit that a bar counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Items,
    Bytes,
}

impl Unit {
    fn text(self, count: u64) -> String {
        match self {
            Self::Items => count.to_string(),
            Self::Bytes => format!("{:.1} MB", count as f64 / 1e6),
        }
    }

    fn rate(self, per_second: f64) -> String {
        match self {
            Self::Items => format!("{per_second:.1}/s"),
            Self::Bytes => format!("{:.1} MB/s", per_second / 1e6),
        }
    }
}

impl Lines {
    fn new(len: u64, what: &str, interval: Duration) -> Self {
        let (what, message) = (what.to_owned(), String::new());
        let (since, said) = (Duration::ZERO, Duration::ZERO);
        Self { what, message, done: 0, before: 0, since, len, interval, said, finished: false, unit: Unit::Items }
    }

    fn begin_at(&mut self, n: u64, elapsed: Duration) {
        (self.done, self.before, self.since) = (n, n, elapsed);
    }

    fn advance(&mut self, n: u64, elapsed: Duration) -> Option<String> {
        self.done += n;
        // The last item is left to `finish`, which would say the same again.
        let due =
            elapsed.saturating_sub(self.said) >= self.interval && (self.before + 1..self.len).contains(&self.done);
        due.then(|| {
            self.said = elapsed;
            let rate = (self.done - self.before) as f64 / (elapsed - self.since).as_secs_f64();
            let left = Duration::from_secs_f64((self.len - self.done) as f64 / rate);
            let percent = 100 * self.done / self.len;
            let (done, len) = (self.unit.text(self.done), self.unit.text(self.len));
            let (rate, left) = (self.unit.rate(rate), duration_text(left));
            format!("{}: {done} of {len} ({percent} %), {rate}, {left} left{}", self.what, self.remark())
        })
    }

    fn finish(&mut self, elapsed: Duration) -> Option<String> {
        let silent = self.finished || elapsed < WORTH_MENTIONING;
        self.finished = true;
        let (done, len) = (self.unit.text(self.done), self.unit.text(self.len));
        let time = duration_text(elapsed.saturating_sub(self.since));
        let now = match self.before {
            0 => String::new(),
            before => format!(", {} of them", self.unit.text(self.done - before)),
        };
        (!silent).then(|| format!("{}: {done} of {len}{now} in {time}{}", self.what, self.remark()))
    }

    fn remark(&self) -> String {
        if self.message.is_empty() { String::new() } else { format!(", {}", self.message) }
    }
}

/// Locks the lines, also after a thread panicked with them: they are only words.
fn locked(lines: &Mutex<Lines>) -> std::sync::MutexGuard<'_, Lines> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

const ITEMS: &str = "{prefix} {wide_bar} {pos}/{len} {rate}, {eta} left {msg}";
const BYTES: &str = "{prefix} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left {msg}";

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is well-formed").with_key(
        "rate",
        |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{:.1}/s", state.per_sec());
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bash reads the command as the same words, and nothing in it acts on a terminal.
    #[test]
    fn a_command_can_be_pasted_whatever_is_in_its_words() {
        for word in
            ["plain", "two words", "it's", "a\nb", "esc\u{1b}[2J", "tab\there", "bidi\u{202e}x", "b\\s'\r", "é\u{7f}"]
        {
            let command = shell_command([OsStr::new(word)]);
            assert!(!command.chars().any(|c| c.is_control() || is_invisible(c)), "{command:?}");
            let said =
                std::process::Command::new("bash").args(["-c", &format!("printf %s {command}")]).output().unwrap();
            assert_eq!(String::from_utf8(said.stdout).unwrap(), word, "{command}");
        }
    }

    #[test]
    fn what_was_done_before_is_no_part_of_the_speed() {
        let mut lines = Lines::new(100, "finetuning", Duration::from_secs(1));
        assert_eq!(lines.advance(20, Duration::from_secs(2)).unwrap(), "finetuning: 20 of 100 (20 %), 10.0/s, 8s left");
        (lines.done, lines.before) = (60, 60);
        assert_eq!(lines.advance(0, Duration::from_secs(9)), None);
        assert_eq!(
            lines.advance(20, Duration::from_secs(10)).unwrap(),
            "finetuning: 80 of 100 (80 %), 2.0/s, 10s left"
        );
        assert_eq!(lines.finish(Duration::from_secs(11)).unwrap(), "finetuning: 80 of 100, 20 of them in 11s");
    }

    #[test]
    fn the_speed_after_going_back_is_that_since_then() {
        let mut lines = Lines::new(100, "finetuning", Duration::from_secs(1));
        lines.advance(90, Duration::from_secs(9));
        lines.begin_at(40, Duration::from_secs(10));
        assert_eq!(
            lines.advance(20, Duration::from_secs(20)).unwrap(),
            "finetuning: 60 of 100 (60 %), 2.0/s, 20s left"
        );
        lines.advance(40, Duration::from_secs(40));
        assert_eq!(lines.finish(Duration::from_secs(40)).unwrap(), "finetuning: 100 of 100, 60 of them in 30s");
    }

    #[test]
    fn marks_of_direction_and_colours_are_shown_by_their_numbers() {
        assert_eq!(
            harmless("cat\u{202e}gnp.exe\n\u{1b}[31mred\u{feff}"),
            "cat\\u{202e}gnp.exe\n\\u{1b}[31mred\\u{feff}"
        );
        assert_eq!(harmless("größer 猫 🐈\nmore"), "größer 猫 🐈\nmore");
    }

    #[test]
    fn a_name_with_control_characters_stays_on_one_line() {
        assert_eq!(shortened(&"é".repeat(1_000_000)).chars().count(), 2007);
        assert_eq!(shortened("short"), "short");
        assert_eq!(on_one_line("a\n\u{1b}[2Jé.png"), "a\\n\\u{1b}[2Jé.png");
    }
}
