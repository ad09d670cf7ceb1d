//! Trains two small classifiers of handwritten digits with cross-entropy, the rooted loss and its bounded sibling, and
//! plots test accuracy against epochs.
//!
//! For one seed every loss starts from the same weights and sees the same batches in the same order. All are trained by
//! Adam at one learning rate, and nothing is tuned: Adam's step does not depend on a loss's scale.
//!
//! ```sh
//! .venv/bin/python scripts/digits.py
//! cargo run --release --example digits -- --out samples/examples
//! ```

#[path = "digits/networks.rs"]
mod networks;
#[path = "digits/objective.rs"]
mod objective;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser;
use networks::Network;
use objective::Objective;
use rand::seq::SliceRandom;
use rootgan::draw::plot::{Line, Plot, Scale};
use rootgan::tensor::no_grad;
use rootgan::tensor::seed::{Stream, host_rng};
use tch::nn::{self, OptimizerConfig};
use tch::{Kind, Tensor};

/// Digits: cross-entropy, rooted and bounded.
#[derive(Parser)]
struct Args {
    /// What scripts/digits.py wrote.
    #[arg(long, default_value = ".cache/digits.safetensors")]
    data: PathBuf,
    /// Folder of the plots.
    #[arg(long, default_value = "target/examples-out")]
    out: PathBuf,
    /// Runs of every loss and network.
    #[arg(long, default_value_t = 5)]
    seeds: u64,
    /// Passes over the training digits.
    #[arg(long, default_value_t = 40)]
    epochs: usize,
    /// Digits per step; the last few of an epoch that fill no batch are left out.
    #[arg(long, default_value_t = 32)]
    batch: usize,
    /// Adam's step size.
    #[arg(long, default_value_t = 2e-3)]
    lr: f64,
}

const OBJECTIVES: [Objective; 7] = [
    Objective::CrossEntropy,
    Objective::Rooted(2.0),
    Objective::Rooted(5.0),
    Objective::Rooted(20.0),
    Objective::Bounded(2.0),
    Objective::Bounded(5.0),
    Objective::Bounded(20.0),
];
/// Epochs that have a column in the table; the last epoch has one too.
const SHOWN_EPOCHS: [usize; 5] = [1, 2, 5, 10, 20];
/// Epoch at which the second plot begins.
const LATE_EPOCH: usize = 10;
/// Test accuracy, in percent, for which the table says how soon it is reached.
const GOAL_PERCENT: f64 = 90.0;

struct Digits {
    train: Part,
    test: Part,
}

struct Part {
    /// Images, float32 [n, 64].
    images: Tensor,
    /// Labels, int64 [n].
    labels: Tensor,
}

/// The results of all runs of one loss.
struct Outcome {
    name: String,
    /// Test accuracy in percent, [seed][epoch].
    accuracies: Vec<Vec<f64>>,
    /// Mean cross-entropy of the test digits after the last epoch, whatever the loss, per seed.
    test_cross_entropies: Vec<f64>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.seeds > 0 && args.epochs > 0, "cannot train with --seeds 0 or --epochs 0; pass at least 1");
    let digits = Digits::read(&args.data)?;
    ensure!(
        (1..=digits.train.len()).contains(&args.batch),
        "cannot train with --batch {}: pass 1 to {}",
        args.batch,
        digits.train.len()
    );
    std::fs::create_dir_all(&args.out)?;
    for network in [Network::Mlp, Network::Transformer] {
        let started = Instant::now();
        let outcomes = OBJECTIVES
            .iter()
            .map(|objective| Outcome::measure(&args, &digits, network, objective))
            .collect::<Result<Vec<_>>>()?;
        print_table(&args, network, &outcomes);
        let stem = format!("digits-{}", network.name());
        plot(&args, network, &outcomes, 1).save(&args.out.join(&stem))?;
        if args.epochs > LATE_EPOCH {
            plot(&args, network, &outcomes, LATE_EPOCH).save(&args.out.join(format!("{stem}-late")))?;
        }
        println!("plots in '{}', {:.0} s", args.out.display(), started.elapsed().as_secs_f64());
    }
    Ok(())
}

impl Digits {
    fn read(path: &Path) -> Result<Self> {
        let remedy = || format!("cannot read '{}'; make it with scripts/digits.py", path.display());
        let mut tensors: HashMap<String, Tensor> =
            Tensor::read_safetensors(path).with_context(remedy)?.into_iter().collect();
        let mut take =
            |name: &str| tensors.remove(name).ok_or_else(|| anyhow!("it has no tensor '{name}'")).with_context(remedy);
        let mut part = |name: &str| -> Result<Part> {
            Ok(Part { images: take(&format!("{name}_images"))?, labels: take(&format!("{name}_labels"))? })
        };
        Ok(Self { train: part("train")?, test: part("test")? })
    }
}

impl Part {
    fn len(&self) -> usize {
        self.labels.size1().unwrap_or(0) as usize
    }
}

impl Outcome {
    fn measure(args: &Args, digits: &Digits, network: Network, objective: &Objective) -> Result<Self> {
        let mut outcome = Self { name: objective.name(), accuracies: Vec::new(), test_cross_entropies: Vec::new() };
        for seed in 0..args.seeds {
            let (accuracies, cross_entropy) = train(args, digits, network, objective, seed)
                .with_context(|| format!("cannot train with {}, seed {seed}", objective.name()))?;
            outcome.accuracies.push(accuracies);
            outcome.test_cross_entropies.push(cross_entropy);
        }
        Ok(outcome)
    }

    /// Returns mean and standard deviation of the accuracy over the seeds after `epoch` (from 1).
    fn accuracy(&self, epoch: usize) -> (f64, f64) {
        mean_and_deviation(&self.at(epoch))
    }

    /// Returns the accuracy of each seed after `epoch` (from 1).
    fn at(&self, epoch: usize) -> Vec<f64> {
        self.accuracies.iter().map(|of_seed| of_seed[epoch - 1]).collect()
    }

    /// Returns the mean over the seeds of the first epoch with [`GOAL_PERCENT`]; NaN where one never got there.
    fn epochs_to_goal(&self) -> f64 {
        let first = |of_seed: &Vec<f64>| {
            of_seed.iter().position(|&accuracy| accuracy >= GOAL_PERCENT).map_or(f64::NAN, |i| i as f64 + 1.0)
        };
        self.accuracies.iter().map(first).sum::<f64>() / self.accuracies.len() as f64
    }
}

/// Makes one run; returns the test accuracy after every epoch, and the last cross-entropy.
fn train(args: &Args, digits: &Digits, network: Network, objective: &Objective, seed: u64) -> Result<(Vec<f64>, f64)> {
    tch::manual_seed(seed as i64);
    let vs = nn::VarStore::new(tch::Device::Cpu);
    let model = network.build(&vs.root());
    let mut adam = nn::Adam::default().build(&vs, args.lr)?;
    let mut order: Vec<i64> = (0..digits.train.len() as i64).collect();
    let mut accuracies = Vec::with_capacity(args.epochs);
    let mut cross_entropy = f64::NAN;
    for epoch in 0..args.epochs {
        order.shuffle(&mut host_rng(seed, epoch as u64, Stream::Sampler, 0));
        for indices in order.chunks_exact(args.batch) {
            let batch = Tensor::from_slice(indices);
            let logits = model.forward(&digits.train.images.index_select(0, &batch));
            let loss = objective.of(&logits, &digits.train.labels.index_select(0, &batch))?.mean(Kind::Float);
            ensure!(loss.double_value(&[]).is_finite(), "the loss is not finite in epoch {}", epoch + 1);
            adam.backward_step(&loss);
        }
        let logits = no_grad(|| model.forward(&digits.test.images));
        accuracies.push(100.0 * logits.accuracy_for_logits(&digits.test.labels).double_value(&[]));
        let losses = Objective::CrossEntropy.of(&logits, &digits.test.labels)?;
        cross_entropy = losses.mean(Kind::Double).double_value(&[]);
    }
    Ok((accuracies, cross_entropy))
}

/// Returns mean and standard deviation of a sample (n - 1); the deviation of one value is 0.
fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}

fn print_table(args: &Args, network: Network, outcomes: &[Outcome]) {
    println!(
        "\n{}: test accuracy in percent after epochs, mean and standard deviation of {} seeds; \
         the last accuracy less that of cross-entropy, seed by seed; epochs to \
         {GOAL_PERCENT} percent; test cross-entropy",
        network.name(),
        args.seeds
    );
    let mut epochs: Vec<usize> = SHOWN_EPOCHS.into_iter().filter(|&epoch| epoch < args.epochs).collect();
    epochs.push(args.epochs);
    print!("{:16}", "loss");
    epochs.iter().for_each(|epoch| print!(" {epoch:>12}"));
    println!(" {:>13} {:>6} {:>13}", "difference", "to 90", "test -log p");
    let baseline = outcomes[0].at(args.epochs);
    for outcome in outcomes {
        let text = |(mean, deviation): (f64, f64), digits| format!("{mean:.digits$} ± {deviation:.digits$}");
        print!("{:16}", outcome.name);
        epochs.iter().for_each(|&epoch| print!(" {:>12}", text(outcome.accuracy(epoch), 2)));
        let last = outcome.at(args.epochs);
        let differences: Vec<f64> = last.iter().zip(&baseline).map(|(own, base)| own - base).collect();
        println!(
            " {:>13} {:6.1} {:>13}",
            text(mean_and_deviation(&differences), 2),
            outcome.epochs_to_goal(),
            text(mean_and_deviation(&outcome.test_cross_entropies), 3)
        );
    }
}

fn plot(args: &Args, network: Network, outcomes: &[Outcome], first_epoch: usize) -> Plot {
    let lines = outcomes.iter().map(|outcome| {
        let all = (first_epoch..=args.epochs).map(|epoch| (epoch as f64, outcome.accuracy(epoch)));
        Line {
            label: outcome.name.clone(),
            points: all.clone().map(|(epoch, (mean, _))| (epoch, mean)).collect(),
            band: all.map(|(epoch, (mean, deviation))| (epoch, mean - deviation, mean + deviation)).collect(),
        }
    });
    Plot {
        title: format!("Digits, {}: mean and standard deviation of {} seeds", network.title(), args.seeds),
        x_label: "epochs".to_owned(),
        y_label: "test accuracy, percent".to_owned(),
        lines: lines.collect(),
        y_scale: Scale::Linear,
        level: None,
    }
}
