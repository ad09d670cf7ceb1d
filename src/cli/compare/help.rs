//! The help of `compare` and `tune` where options of finetune mean something else, or are refused.

use clap::Command;

/// Options that belong to single runs, or that the evaluations decide.
const DECIDED: [&str; 4] = ["outdir", "desc", "tick_kimg", "snapshot_ticks"];

/// Adapts the options of `rootgan compare`.
pub fn of_compare(command: Command) -> Command {
    shared(command)
        .mut_arg("kimg", |kimg| kimg.help("Length of each run in thousands of images, which has to be given"))
}

/// Adapts the options of `rootgan tune`.
pub fn of_tune(command: Command) -> Command {
    shared(command)
        .mut_arg("kimg", |kimg| kimg.help("Length of the longest runs in thousands of images [default: 8]"))
        .mut_arg("r1_gamma", |gamma| gamma.hide(true))
}

fn shared(command: Command) -> Command {
    DECIDED.into_iter().fold(command, |command, name| command.mut_arg(name, |option| option.hide(true))).mut_arg(
        "metrics",
        |metrics| {
            metrics
                .help("Metrics of every run; the first, of which less has to be better, decides [default: fid2k_full]")
        },
    )
}

#[cfg(test)]
mod tests {
    use crate::cli::Cli;

    #[test]
    fn the_help_shows_what_the_commands_take() {
        let help = |name: &str| {
            let mut command = Cli::adapted_command();
            command.find_subcommand_mut(name).unwrap().render_long_help().to_string()
        };
        for (name, length) in [("compare", "has to be given"), ("tune", "[default: 8]")] {
            let text = help(name);
            assert!(text.contains(length) && text.contains("[default: fid2k_full]"), "{text}");
            assert!(!text.contains("--outdir") && !text.contains("[default: 1000]"), "{text}");
        }
        assert!(help("compare").contains("--r1-gamma") && !help("tune").contains("--r1-gamma"));
        assert!(help("finetune").contains("--outdir"));
    }
}
