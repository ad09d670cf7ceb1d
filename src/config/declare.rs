//! The declaration of options: one macro makes the struct, and every function that has to visit all of them.

/// Declares [`Options`]: each option with its help, its flag, its type and its rules ([`Spec`]) in one place. The
/// functions that visit every option are generated, so that none can be forgotten.
macro_rules! options {
    ($($(#[$attribute:meta])* $name:ident: $kind:ty = $spec:expr,)*) => {
        /// All options of a run; one that is left out takes its default.
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Options {
            $($(#[$attribute])* pub $name: Option<$kind>,)*
        }

        impl Options {
            /// Returns these options, filled up from `fallback`.
            pub(super) fn or(self, fallback: Self) -> Self {
                Self { $($name: self.$name.or(fallback.$name),)* }
            }

            /// Whether `option` has a value here that differs from that in `below`.
            fn gives_anew(&self, option: &str, below: &Self) -> bool {
                match option {
                    $(stringify!($name) => self.$name.is_some() && self.$name != below.$name,)*
                    _ => false,
                }
            }

            /// Returns these options over those of a file that may be the record of a run, in which every value is filled in.
            /// A value that is what the file's other options lead to is forgotten where one of those is given anew.
            pub fn over_file(self, mut file: Self) -> Self {
                let is_new = |option: &str| self.gives_anew(option, &file);
                $(let $name: Spec<$kind> = $spec; let $name = $name.is_derived(&file.$name, &file, is_new);)*
                $(if $name { file.$name = None; })*
                self.over(file)
            }

            /// Returns these options over those of a file or preset. A value below that follows from an option
            /// given anew (a name, a micro-batch, the other loss's parameters) is forgotten.
            pub fn over(self, mut below: Self) -> Self {
                let merged = self.clone().or(below.clone());
                let is_new = |option: &str| self.gives_anew(option, &below);
                $(let $name: Spec<$kind> = $spec; let $name = $name.survives(&merged, is_new);)*
                $(if !$name { below.$name = None; })*
                self.or(below)
            }

            /// Returns these options with the defaults for the networks that `facts` describes.
            pub(super) fn filled(mut self, facts: &NetworkFacts) -> Self {
                // A default may depend on that of another option, in two steps at most (batch, micro-batch).
                for _ in 0..3 {
                    $(let spec: Spec<$kind> = $spec; self.$name = spec.fill(&self.$name, &self, facts);)*
                }
                self
            }

            /// Lists the required options that nobody gave.
            pub(super) fn missing(&self) -> Vec<String> {
                let mut missing = Vec::new();
                $(
                    let spec: Spec<$kind> = $spec;
                    if self.$name.is_none() && spec.is_required() {
                        missing.push(format!("--{} is missing", flag_of(stringify!($name))));
                    }
                )*
                missing
            }

            /// Lists everything that is wrong, so that the user hears of all of it at once.
            pub(super) fn problems(&self, facts: &NetworkFacts) -> Vec<String> {
                let mut problems = Vec::new();
                $({
                    let spec: Spec<$kind> = $spec;
                    spec.check(&flag_of(stringify!($name)), &self.$name, self, facts, &mut problems);
                })*
                problems
            }

            /// Lists the keys that a file may have.
            pub(super) fn keys() -> Vec<&'static str> {
                vec![$(stringify!($name),)*]
            }

            /// Lists the keys whose values are paths; records leave them out, because where somebody keeps files is
            /// private.
            pub fn path_keys() -> Vec<&'static str> {
                let paths = [$((stringify!($name), TypeId::of::<$kind>() == TypeId::of::<PathBuf>()),)*];
                paths.into_iter().filter(|(_, is_path)| *is_path).map(|(name, _)| name).collect()
            }

            pub(super) fn paths_mut(&mut self) -> impl Iterator<Item = &mut PathBuf> {
                let all: Vec<&mut dyn Any> = vec![$(&mut self.$name,)*];
                all.into_iter().filter_map(|option| option.downcast_mut::<Option<PathBuf>>()?.as_mut())
            }
        }
    };
}
