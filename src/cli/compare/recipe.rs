//! The arms of a comparison: each has a name, and the options that are its own.

use anyhow::{Context, Result, bail, ensure};

use super::arm_run::values_of;
use crate::cli::args::parsed;
use crate::config::{LossKind, Options, Pairing};

/// The losses that are compared where none are named.
const LOSSES: &str = "logistic,rooted:2,rooted:5,rooted:20";

/// The options that are the same for all arms: what is trained, on what and for how long, and how it is measured.
const OF_ALL_ARMS: [&str; 17] = [
    "cfg",
    "from",
    "sha256",
    "generator",
    "generator_raw",
    "discriminator",
    "data",
    "outdir",
    "desc",
    "device",
    "seed",
    "kimg",
    "tick_kimg",
    "snapshot_ticks",
    "metrics",
    "detector",
    "vgg_detector",
];

/// Refuses options that an arm cannot have. `whose` is the text that gave them.
fn ensure_own(options: &Options, whose: &str) -> Result<()> {
    match values_of(options).into_iter().find(|(name, _)| OF_ALL_ARMS.contains(&name.as_str())) {
        Some((name, _)) => bail!("{whose} cannot have --{}: it is the same for all arms", name.replace('_', "-")),
        None => Ok(()),
    }
}

/// One arm: the names of its runs, and the options in which they differ from those of the other arms.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// The name in reports, as in `rooted, k = 2`.
    pub name: String,
    /// The name in paths, as in `rooted2`.
    pub slug: String,
    /// The options that it sets.
    pub options: Options,
}

impl Recipe {
    /// Makes the arm that has the options of all runs and no name, to be varied.
    pub fn of_all() -> Self {
        Self { name: String::new(), slug: String::new(), options: Options::default() }
    }

    /// Reads `NAME: FLAGS`, as in `k20: --loss rooted --root-k 20 --r1-gamma 2`.
    ///
    /// # Errors
    /// There is no name, or the flags are none of `finetune`.
    pub fn from_flags(text: &str) -> Result<Self> {
        let cannot =
            || format!("cannot read --arm '{text}'; write a name and flags of finetune, as in 'k20: --root-k 20'");
        let (name, flags) = text.split_once(':').with_context(cannot)?;
        let name = name.trim();
        ensure!(!name.is_empty(), cannot());
        let words = shlex::split(flags).with_context(cannot)?;
        let options = parsed::<Options>(words).with_context(cannot)?;
        ensure_own(&options, &format!("--arm '{name}'"))?;
        Ok(Self { name: name.to_owned(), slug: slug_of(name), options })
    }

    /// Reads `logistic`, `rooted:K` or `rooted:K:SLOPE`, a loss that judges images as `pairing` says.
    ///
    /// # Errors
    /// The text is none of these.
    pub fn from_loss(text: &str, pairing: Pairing) -> Result<Self> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        let number = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
        let (kind, k, cap) = match parts.as_slice() {
            ["logistic"] => (LossKind::Logistic, None, None),
            ["rooted", k] if number(k).is_some() => (LossKind::Rooted, number(k), None),
            ["rooted", k, cap] if number(k).is_some() && number(cap).is_some() => {
                (LossKind::Rooted, number(k), number(cap))
            }
            _ => bail!("'{text}' is no loss to compare; write logistic, rooted:K or rooted:K:SLOPE, as in {}", LOSSES),
        };
        let name = match kind {
            LossKind::Logistic => "logistic",
            LossKind::Rooted => "rooted",
        };
        let words =
            |before: &str, value: Option<f64>| value.map_or_else(String::new, |value| format!("{before}{value}"));
        Ok(Self {
            name: format!("{name}{}{}", words(", k = ", k), words(", slope up to ", cap)),
            slug: format!("{name}{}{}", words("", k), words("-cap", cap)),
            options: Options {
                loss: Some(kind),
                root_k: k,
                root_slope_cap: cap,
                pairing: Some(pairing),
                ..Options::default()
            },
        })
    }

    /// Makes one arm of this for each value of `OPTION=V1,V2,...`, as in `r1_gamma=0.5,1,2`.
    ///
    /// # Errors
    /// There is no such option, or no such value of it.
    pub fn varied(&self, text: &str) -> Result<Vec<Self>> {
        let cannot = || {
            format!("cannot read --vary '{text}'; write an option of finetune and its values, as in r1_gamma=0.5,1,2")
        };
        let (option, values) = text.split_once('=').with_context(cannot)?;
        let option = option.trim().trim_start_matches("--").replace('-', "_");
        ensure!(!option.is_empty() && !values.trim().is_empty(), cannot());
        let arm = |value: &str| -> Result<Self> {
            let value = value.trim();
            let flag = format!("--{}={value}", option.replace('_', "-"));
            let given = parsed::<Options>([flag]).with_context(cannot)?;
            ensure_own(&given, &format!("--vary '{text}'"))?;
            let (name, slug) = (format!("{option} = {value}"), slug_of(&format!("{option}{value}")));
            let after = |before: &str, between: &str, own: String| match before {
                "" => own,
                before => format!("{before}{between}{own}"),
            };
            Ok(Self {
                name: after(&self.name, ", ", name),
                slug: after(&self.slug, "-", slug),
                options: given.over(self.options.clone()),
            })
        };
        values.split(',').map(arm).collect()
    }
}

/// Turns a name into a part of a path: letters, digits, points and dashes.
fn slug_of(name: &str) -> String {
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '-' }).collect();
    let parts: Vec<&str> = plain.split('-').filter(|part| !part.is_empty()).collect();
    parts.join("-").trim_start_matches('.').to_owned()
}

/// Returns the arms that the command line names, each once. All `losses` judge images alike, as `pairing` says: the default form of
/// one is not that of another.
///
/// # Errors
/// A text that is no arm, or arms that share a name, a folder or all options.
pub fn arms_of(losses: Option<&str>, pairing: Pairing, arms: &[String], vary: &[String]) -> Result<Vec<Recipe>> {
    let default = if arms.is_empty() && vary.is_empty() { Some(LOSSES) } else { None };
    let losses = losses.or(default).into_iter().flat_map(|list| list.split(','));
    let mut recipes = losses.map(|loss| Recipe::from_loss(loss, pairing)).collect::<Result<Vec<_>>>()?;
    recipes.extend(arms.iter().map(|text| Recipe::from_flags(text)).collect::<Result<Vec<_>>>()?);
    if recipes.is_empty() {
        recipes.push(Recipe::of_all());
    }
    for text in vary {
        recipes = recipes.iter().map(|arm| arm.varied(text)).collect::<Result<Vec<_>>>()?.concat();
    }
    for (index, arm) in recipes.iter().enumerate() {
        let earlier = &recipes[..index];
        ensure!(
            earlier.iter().all(|other| other.name != arm.name),
            "the arm '{}' is there twice; name each once",
            arm.name
        );
        if let Some(other) = earlier.iter().find(|other| other.options == arm.options) {
            bail!("the arms '{}' and '{}' have the same options; leave one away", other.name, arm.name);
        }
        if let Some(other) = earlier.iter().find(|other| other.slug == arm.slug) {
            bail!(
                "the arms '{}' and '{}' would share the folders '{}-seed...'; rename one",
                other.name,
                arm.name,
                arm.slug
            );
        }
    }
    Ok(recipes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_read_and_named() {
        let names = |text: &str| {
            text.split(',')
                .map(|loss| Recipe::from_loss(loss, Pairing::None).unwrap())
                .map(|arm| (arm.name, arm.slug))
                .collect::<Vec<_>>()
        };
        let expected = [
            ("logistic", "logistic"),
            ("rooted, k = 2", "rooted2"),
            ("rooted, k = 5, slope up to 10", "rooted5-cap10"),
        ];
        assert_eq!(
            names("logistic,rooted:2,rooted:5:10"),
            expected.map(|(name, slug)| (name.to_owned(), slug.to_owned()))
        );
        for text in ["", "rooted", "rooted:0", "rooted:x", "hinge", "rooted:2:0", "logistic:2"] {
            assert!(Recipe::from_loss(text, Pairing::None).is_err(), "{text}");
        }
    }

    #[test]
    fn an_arm_is_a_name_and_flags() {
        let arm =
            Recipe::from_flags("k 20 / paired: --loss rooted --root-k 20 --r1-gamma 2 --pairing relativistic").unwrap();
        assert_eq!((arm.name.as_str(), arm.slug.as_str()), ("k 20 / paired", "k-20-paired"));
        assert_eq!((arm.options.root_k, arm.options.r1_gamma), (Some(20.0), Some(2.0)));
        for (text, expected) in [
            ("--root-k 20", "write a name and flags"),
            (": --root-k 20", "write a name and flags"),
            ("a: --rootk 20", "unexpected argument '--rootk'"),
            ("a: --root-k x", "invalid value 'x'"),
            ("a: --kimg 3", "cannot have --kimg: it is the same for all arms"),
            ("a: --from b.pkl", "cannot have --from"),
            ("a: --generator-raw b.pt", "cannot have --generator-raw"),
        ] {
            let message = format!("{:#}", Recipe::from_flags(text).unwrap_err());
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    fn values_make_arms_of_an_arm() {
        let arms = Recipe::from_loss("rooted:2", Pairing::None).unwrap().varied("r1-gamma=0.5, 8").unwrap();
        let names: Vec<_> =
            arms.iter().map(|arm| (arm.name.as_str(), arm.slug.as_str(), arm.options.r1_gamma)).collect();
        assert_eq!(
            names,
            [
                ("rooted, k = 2, r1_gamma = 0.5", "rooted2-r1_gamma0.5", Some(0.5)),
                ("rooted, k = 2, r1_gamma = 8", "rooted2-r1_gamma8", Some(8.0)),
            ]
        );
        for text in ["r1_gamma", "r1_gamma=", "nothing=1", "r1_gamma=x", "seed=1,2", "data=a,b", "metrics=fid2k_full"] {
            assert!(arms[0].varied(text).is_err(), "{text}");
        }
    }

    #[test]
    fn arms_are_losses_named_arms_and_all_their_variations() {
        let names = |losses: Option<&str>, arms: &[&str], vary: &[&str]| -> Result<Vec<String>> {
            let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
            Ok(arms_of(losses, Pairing::None, &owned(arms), &owned(vary))?.into_iter().map(|arm| arm.name).collect())
        };
        assert_eq!(names(None, &[], &[]).unwrap().len(), 4);
        assert_eq!(names(None, &["a: --root-k 3"], &[]).unwrap(), ["a"]);
        assert_eq!(names(Some("logistic"), &["a: --root-k 3"], &[]).unwrap(), ["logistic", "a"]);
        let all = names(Some("logistic,rooted:2"), &[], &["r1_gamma=1,2", "g-lr=0.001,0.002"]).unwrap();
        assert_eq!((all.len(), all[7].as_str()), (8, "rooted, k = 2, r1_gamma = 2, g_lr = 0.002"));
        assert_eq!(names(None, &[], &["r1_gamma=1,2"]).unwrap(), ["r1_gamma = 1", "r1_gamma = 2"]);
        let same = names(None, &["a: --root-k 3", "b: --root-k 3.0"], &[]).unwrap_err().to_string();
        assert!(same.contains("'a' and 'b' have the same options"), "{same}");
        assert!(names(Some("logistic,logistic"), &[], &[]).unwrap_err().to_string().contains("is there twice"));
    }
}
