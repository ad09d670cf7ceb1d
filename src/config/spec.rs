//! The rules of an option: its default, its range, and the mode that it belongs to. The declarations are in
//! `options.rs`, one option in one place.

use super::{NetworkFacts, Options};

/// The mode that an option needs, such as `--aug ada`: its name for messages, and a test for it.
type Mode = (&'static str, fn(&Options) -> bool);

/// The resolutions that networks can have.
const RESOLUTIONS: [u64; 11] = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096];

/// The rules of one option of type `T`.
pub(super) struct Spec<T> {
    default: Option<Default<T>>,
    is_required: bool,
    mode: Option<Mode>,
    needed_by_mode: Option<&'static str>,
    forced: Option<fn(&NetworkFacts) -> Option<T>>,
    follows: &'static [&'static str],
    derived_from: &'static [&'static str],
    range: Option<fn(&T) -> Option<String>>,
    fits: Option<Fits<T>>,
}

enum Default<T> {
    Value(T),
    /// None while an option that it depends on has no value yet.
    From(fn(&Options, &NetworkFacts) -> Option<T>),
}

/// Says in a sentence why a value does not fit the other options or the networks; None where it fits.
type Fits<T> = fn(&T, &Options, &NetworkFacts) -> Option<String>;

impl<T> Spec<T> {
    /// Makes the rules of an option that may be left out and takes any value.
    pub fn optional() -> Self {
        Self {
            default: None,
            is_required: false,
            mode: None,
            needed_by_mode: None,
            forced: None,
            follows: &[],
            derived_from: &[],
            range: None,
            fits: None,
        }
    }

    /// Makes the rules of an option that must be given.
    pub fn required() -> Self {
        Self { is_required: true, ..Self::optional() }
    }

    /// Makes the rules of an option that is `value` where it is not given.
    pub fn default(value: T) -> Self {
        Self { default: Some(Default::Value(value)), ..Self::optional() }
    }

    /// Makes the rules of an option whose default depends on the networks or on other options.
    pub fn default_from(value: fn(&Options, &NetworkFacts) -> Option<T>) -> Self {
        Self { default: Some(Default::From(value)), ..Self::optional() }
    }

    /// Bounds the values; `range` says what is wrong with one, as in "must be above 0, not -1".
    pub fn range(self, range: fn(&T) -> Option<String>) -> Self {
        Self { range: Some(range), ..self }
    }

    /// Checks the value against the other options and the networks.
    pub fn fits(self, fits: Fits<T>) -> Self {
        Self { fits: Some(fits), ..self }
    }

    /// Binds the option to a mode, where `holds` is true and which `mode` names, as in "--aug ada". Elsewhere it has no
    /// default, and a given value is an error.
    pub fn only_with(self, mode: &'static str, holds: fn(&Options) -> bool) -> Self {
        Self { mode: Some((mode, holds)), ..self }
    }

    /// Makes the option required in its mode; `example` says what to pass.
    pub fn needed(self, example: &'static str) -> Self {
        Self { needed_by_mode: Some(example), ..self }
    }

    /// Sets a value that the networks force, whatever the user gave.
    pub fn forced(self, forced: fn(&NetworkFacts) -> Option<T>) -> Self {
        Self { forced: Some(forced), ..self }
    }

    /// Forgets a value of a file or preset where one of these options is given anew.
    pub fn follows(self, options: &'static [&'static str]) -> Self {
        Self { follows: options, ..self }
    }

    /// Forgets a value of a file where one of these options is given anew, and the file's value is the default that its own
    /// options lead to: such a value was derived, or is no loss.
    pub fn derived_from(self, options: &'static [&'static str]) -> Self {
        Self { derived_from: options, ..self }
    }

    /// Fills in the value, where it is known.
    pub fn fill(self, value: &Option<T>, options: &Options, facts: &NetworkFacts) -> Option<T>
    where
        T: Clone,
    {
        if let Some(forced) = self.forced.and_then(|forced| forced(facts)) {
            return Some(forced);
        }
        if value.is_some() || !self.belongs(options) {
            return value.clone();
        }
        match self.default? {
            Default::Value(value) => Some(value),
            Default::From(value) => value(options, facts),
        }
    }

    /// Whether the option must be given.
    pub fn is_required(&self) -> bool {
        self.is_required
    }

    /// Adds what is wrong with the value of the option `--flag`.
    pub fn check(
        &self,
        flag: &str,
        value: &Option<T>,
        options: &Options,
        facts: &NetworkFacts,
        problems: &mut Vec<String>,
    ) {
        let Some(value) = value else {
            if let (Some((mode, holds)), Some(example)) = (self.mode, self.needed_by_mode)
                && holds(options)
            {
                problems.push(format!("{mode} needs --{flag}, {example}"));
            }
            return;
        };
        if let Some((mode, _)) = self.mode.filter(|(_, holds)| !holds(options)) {
            problems.push(format!("--{flag} belongs to {mode}"));
            return;
        }
        let range = self.range.and_then(|range| range(value)).map(|problem| format!("--{flag} {problem}"));
        problems.extend(range.or_else(|| self.fits.and_then(|fits| fits(value, options, facts))));
    }

    /// Whether a value of a file or preset outlives the options given over it; `is_new` tells which are given anew.
    pub fn survives(&self, merged: &Options, is_new: impl Fn(&str) -> bool) -> bool {
        self.belongs(merged) && !self.follows.iter().any(|option| is_new(option))
    }

    /// Whether `value`, one of a file's `options`, was derived from an option that is given anew.
    pub fn is_derived(&self, value: &Option<T>, options: &Options, is_new: impl Fn(&str) -> bool) -> bool
    where
        T: PartialEq,
    {
        let Some(Default::From(rule)) = &self.default else { return false };
        // The networks are not loaded yet, so their resolution is not known.
        let is_default = || RESOLUTIONS.iter().any(|&r| rule(options, &NetworkFacts::of_resolution(r)) == *value);
        value.is_some() && self.derived_from.iter().any(|option| is_new(option)) && is_default()
    }

    fn belongs(&self, options: &Options) -> bool {
        self.mode.is_none_or(|(_, holds)| holds(options))
    }
}

/// Says what is wrong with a value that is not above 0, or above 1e9, which is a typing error.
pub(super) fn above_zero(value: &f64) -> Option<String> {
    const MOST: f64 = 1e9;
    match value {
        value if !(value.is_finite() && *value > 0.0) => Some(format!("must be above 0, not {value}")),
        value if *value > MOST => Some(format!("{value:e} is more than {MOST}")),
        _ => None,
    }
}

pub(super) fn zero_or_more(value: &f64) -> Option<String> {
    (!(value.is_finite() && *value >= 0.0)).then(|| format!("must be 0 or more, not {value}"))
}

pub(super) fn probability(value: &f64) -> Option<String> {
    (!(0.0..=1.0).contains(value)).then(|| format!("must be from 0 to 1, not {value}"))
}

pub(super) fn sign(value: &f64) -> Option<String> {
    (!(-1.0..=1.0).contains(value)).then(|| format!("must be from -1 to 1, not {value}"))
}

pub(super) fn at_least_one(value: &u64) -> Option<String> {
    (*value == 0).then(|| "must be at least 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_say_what_is_wrong() {
        assert_eq!(above_zero(&f64::NAN), Some("must be above 0, not NaN".to_owned()));
        assert_eq!(above_zero(&1e10), Some("1e10 is more than 1000000000".to_owned()));
        assert_eq!((above_zero(&0.1), zero_or_more(&0.0), probability(&1.0), sign(&-1.0)), (None, None, None, None));
        assert!(zero_or_more(&f64::INFINITY).is_some() && probability(&-0.1).is_some() && at_least_one(&0).is_some());
    }
}
