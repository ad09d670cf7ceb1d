//! Logistic regression on separable data under gradient descent: the rooted loss against the logistic loss.
//!
//! Points `a_i = y_i x_i` (label times point) and a linear classifier without bias give `L(w) = mean_i loss(a_i . w)`.
//! No w reaches its infimum, which is approached only along rays that separate the points. Where gradient descent goes
//! then follows from slope and curvature in terms of the margin z = a_i . w:
//!
//! ```text
//! slope      rooted_k: sigmoid(-z) exp(softplus(-z) / k)  -> exp(-z)  for z -> inf, whatever k, logistic too
//! curvature  rooted_k: exp(softplus(-z) / k) (s (1 - s) + (1 - s)^2 / k),  s = sigmoid(z)
//!            rooted_k / logistic = exp(softplus(-z) / k) (1 + exp(-z) / k)  > 1,  -> 1 + 2 exp(-z) / k  for z -> inf
//!            rooted_k -> exp(-z / k) / k  for z -> -inf, where the logistic loss has exp(z)
//! ```
//!
//! So both are strictly convex (where the points span the space), and have the same exponential tail: theory promises
//! the max-margin direction for each of them at the same slow rate, 1 / log(steps) (Soudry et al., arXiv 1710.10345).
//! What the root changes lies at small and negative margins. This program measures how much.
//!
//! ```sh
//! cargo run --release --example separable -- --out samples/examples
//! ```

#[path = "separable/max_margin.rs"]
mod max_margin;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use max_margin::{MaxMargin, angle_degrees, dot, max_margin};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rand_distr::{Distribution, StandardNormal};
use rootgan::draw::plot::{Line, Plot, Scale};
use rootgan::train::objective::{AdversarialLoss, Rooted};
use tch::{Kind, Tensor};

/// Gradient descent on separable points: rooted against logistic.
#[derive(Parser)]
struct Args {
    /// Folder of the plots.
    #[arg(long, default_value = "target/examples-out")]
    out: PathBuf,
    /// Another seed, other points.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Points.
    #[arg(long, default_value_t = 100)]
    points: usize,
    /// The last step is 10 to this power.
    #[arg(long, default_value_t = 5)]
    decades: u32,
}

/// Least distance of the points from the plane that labels them; the max margin is at least this.
const TEACHER_MARGIN: f64 = 0.2;
/// Numbers of dimensions that are measured; the plots show the last of them.
const DIMENSIONS: [usize; 2] = [2, 10];
const ROOTS: [f64; 3] = [2.0, 5.0, 20.0];
const RECORDS_PER_DECADE: u32 = 10;
/// Share of the largest eigenvalue (64 units of the last place) below which an eigenvalue is rounding and not shown.
const ROUNDING: f64 = 64.0 * f64::EPSILON;
/// Margins of the closest point along the max-margin direction at which the curvature is printed.
const FIXED_MARGINS: [f64; 9] = [-20.0, -10.0, -5.0, -2.0, 0.0, 2.0, 5.0, 10.0, 20.0];

/// Separable points and what is known of them.
struct Problem {
    /// Points [points, dimension], labels absorbed, float64.
    points: Tensor,
    rows: Vec<Vec<f64>>,
    best: MaxMargin,
    /// Largest eigenvalue of `A^T A / n`.
    spread: f64,
}

/// A state of a descent.
struct Record {
    step: u64,
    /// Margin of w / |w| over the max margin; negative while a point is on the wrong side.
    relative_margin: f64,
    /// Angle from the max-margin direction.
    angle_degrees: f64,
    /// The loss less its infimum (k, or 0).
    excess: f64,
    /// Least eigenvalue of the Hessian of the loss.
    least_eigenvalue: f64,
}

/// A loss with a learning rate, and the states that it went through.
struct Descent {
    label: String,
    lr: f64,
    records: Vec<Record>,
}

/// The least eigenvalues of the Hessian of one loss along a ray.
struct Curvature {
    label: String,
    /// Pairs of (margin of the closest point, least eigenvalue).
    least_eigenvalues: Vec<(f64, f64)>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let started = Instant::now();
    std::fs::create_dir_all(&args.out)?;
    for dimension in DIMENSIONS {
        let problem = Problem::draw(args.points, dimension, args.seed)?;
        problem.describe(dimension);
        let descents = descend_all(&problem, args.decades)?;
        print_descents(&descents);
        let curvatures = curvatures(&problem, &FIXED_MARGINS)?;
        print_curvatures(&curvatures);
        if Some(&dimension) == DIMENSIONS.last() {
            save_plots(&args, &problem, &descents, dimension)?;
        }
    }
    println!("plots in '{}', {:.0} s", args.out.display(), started.elapsed().as_secs_f64());
    Ok(())
}

fn losses() -> Result<Vec<(String, AdversarialLoss)>> {
    let mut losses = vec![("logistic".to_owned(), AdversarialLoss::Logistic)];
    for k in ROOTS {
        losses.push((format!("rooted, k = {k}"), AdversarialLoss::Rooted(Rooted::new(k, None)?)));
    }
    Ok(losses)
}

impl Problem {
    /// Draws normal points at least [`TEACHER_MARGIN`] from a random plane through 0, which labels them.
    fn draw(count: usize, dimension: usize, seed: u64) -> Result<Self> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut normal = || -> Vec<f64> { StandardNormal.sample_iter(&mut rng).take(dimension).collect() };
        let teacher = normal();
        let length = dot(&teacher, &teacher).sqrt();
        let mut rows = Vec::with_capacity(count);
        while rows.len() < count {
            let mut point = normal();
            let distance = dot(&point, &teacher) / length;
            if distance.abs() >= TEACHER_MARGIN {
                point.iter_mut().for_each(|x| *x *= distance.signum());
                rows.push(point);
            }
        }
        let points = Tensor::from_slice(&rows.concat()).view([count as i64, dimension as i64]);
        let gram = points.tr().matmul(&points) / count as f64;
        let spread = gram.linalg_eigvalsh("L").max().double_value(&[]);
        let best = max_margin(&rows)?;
        Ok(Self { points, rows, best, spread })
    }

    fn describe(&self, dimension: usize) {
        let MaxMargin { margin, support, kkt_residual, .. } = &self.best;
        println!(
            "\n{} points in {dimension} dimensions: max margin {margin:.6}, {support} points on it, KKT residual \
             {kkt_residual:.1e}; largest eigenvalue of A^T A / n {:.4}",
            self.rows.len(),
            self.spread
        );
    }

    /// Takes a gradient step: `w + lr mean_i slope(a_i . w) a_i`.
    fn step(&self, loss: &AdversarialLoss, w: &Tensor, lr: f64) -> Tensor {
        let slopes = loss.slope(&self.points.mv(w));
        w + self.points.tr().mv(&slopes) * (lr / self.rows.len() as f64)
    }

    /// Returns the least and largest eigenvalue of the loss's Hessian `A^T diag(loss''(A w)) A / n`; loss'' comes of
    /// differentiating the library's loss twice.
    fn eigenvalues(&self, loss: &AdversarialLoss, w: &Tensor) -> [f64; 2] {
        let z = self.points.mv(w).set_requires_grad(true);
        let first = Tensor::run_backward(&[loss.of(&z).sum(Kind::Double)], &[&z], true, true).remove(0);
        let second = Tensor::run_backward(&[first.sum(Kind::Double)], &[&z], false, false).remove(0);
        let hessian = self.points.tr().matmul(&(&self.points * second.unsqueeze(1))) / self.rows.len() as f64;
        let eigenvalues = hessian.linalg_eigvalsh("L");
        [eigenvalues.min().double_value(&[]), eigenvalues.max().double_value(&[])]
    }

    fn record(&self, loss: &AdversarialLoss, step: u64, w: &Tensor) -> Result<Record> {
        let z = self.points.mv(w);
        let weights = Vec::<f64>::try_from(w)?;
        let margin = z.min().double_value(&[]) / dot(&weights, &weights).sqrt();
        Ok(Record {
            step,
            relative_margin: margin / self.best.margin,
            angle_degrees: angle_degrees(&weights, &self.best.direction),
            excess: loss.excess(&z).mean(Kind::Double).double_value(&[]),
            least_eigenvalue: self.eigenvalues(loss, w)[0],
        })
    }
}

/// Descends from w = 0, and records the states at `steps`.
fn descend(problem: &Problem, loss: &AdversarialLoss, lr: f64, steps: &[u64]) -> Result<Vec<Record>> {
    let mut w = Tensor::zeros_like(&problem.points.get(0));
    let mut records = Vec::with_capacity(steps.len());
    let mut done = 0;
    for &step in steps {
        for _ in done..step {
            w = problem.step(loss, &w, lr);
        }
        done = step;
        records.push(problem.record(loss, step, &w)?);
    }
    Ok(records)
}

/// Descends with every loss at the logistic loss's learning rate, 1 / L with L the largest eigenvalue of its Hessian at
/// w = 0 (its largest anywhere), then with every rooted loss at 1 / L of its own Hessian at 0 (it has no bound for
/// `z -> -inf`).
fn descend_all(problem: &Problem, decades: u32) -> Result<Vec<Descent>> {
    let mut steps: Vec<u64> = (0..=decades * RECORDS_PER_DECADE)
        .map(|i| 10f64.powf(f64::from(i) / f64::from(RECORDS_PER_DECADE)).round() as u64)
        .collect();
    steps.dedup();
    let origin = Tensor::zeros_like(&problem.points.get(0));
    let lr_of = |loss: &AdversarialLoss| 1.0 / problem.eigenvalues(loss, &origin)[1];
    let common_lr = lr_of(&AdversarialLoss::Logistic);
    let mut descents = Vec::new();
    for (name, loss) in losses()? {
        descents.push(Descent {
            records: descend(problem, &loss, common_lr, &steps)?,
            label: name.clone(),
            lr: common_lr,
        });
    }
    for (name, loss) in losses()?.into_iter().skip(1) {
        let (label, lr) = (format!("{name}, own rate"), lr_of(&loss));
        descents.push(Descent { records: descend(problem, &loss, lr, &steps)?, label, lr });
    }
    Ok(descents)
}

fn print_descents(descents: &[Descent]) {
    println!(
        "\n{:24} {:>8} {:>8} {:>11} {:>10} {:>11} {:>11}",
        "loss", "rate", "step", "margin/max", "angle deg", "loss - inf", "least eig"
    );
    for descent in descents {
        let decades = descent.records.iter().filter(|record| is_power_of_ten(record.step));
        for Record { step, relative_margin, angle_degrees, excess, least_eigenvalue } in decades {
            println!(
                "{:24} {:8.4} {step:8} {relative_margin:11.4} {angle_degrees:10.4} {excess:11.3e} \
                 {least_eigenvalue:11.3e}",
                descent.label, descent.lr
            );
        }
    }
}

fn is_power_of_ten(step: u64) -> bool {
    10u64.pow(step.ilog10()) == step
}

/// Returns, per loss, the least eigenvalue of the Hessian where the closest point has each of `margins`, w lying along
/// the max-margin direction (against it where the margin is negative: then all points are on the wrong side, the others
/// further). It is NaN where it drowns in the rounding of the largest.
fn curvatures(problem: &Problem, margins: &[f64]) -> Result<Vec<Curvature>> {
    let direction = Tensor::from_slice(&problem.best.direction);
    let at = |loss: &AdversarialLoss, margin: f64| {
        let w = &direction * (margin / problem.best.margin);
        let [least, largest] = problem.eigenvalues(loss, &w);
        (margin, if least > ROUNDING * largest { least } else { f64::NAN })
    };
    let of = |(label, loss)| Curvature {
        label,
        least_eigenvalues: margins.iter().map(|&margin| at(&loss, margin)).collect(),
    };
    Ok(losses()?.into_iter().map(of).collect())
}

fn print_curvatures(curvatures: &[Curvature]) {
    println!(
        "\nleast eigenvalue of the Hessian at w = c u / (max margin), u the max-margin direction (over logistic); \
         NaN: lost in rounding"
    );
    print!("{:>6}", "c");
    curvatures.iter().for_each(|curvature| print!(" {:>22}", curvature.label));
    for (row, &(margin, logistic)) in curvatures[0].least_eigenvalues.iter().enumerate() {
        print!("\n{margin:6}");
        for curvature in curvatures {
            let value = curvature.least_eigenvalues[row].1;
            print!(" {:>22}", format!("{value:.3e} ({:.4e})", value / logistic));
        }
    }
    println!();
}

fn save_plots(args: &Args, problem: &Problem, descents: &[Descent], dimension: usize) -> Result<()> {
    let over_steps = |y: &dyn Fn(&Record) -> f64| -> Vec<Line> {
        let points = |descent: &Descent| {
            descent.records.iter().map(|record| ((record.step as f64).log10(), y(record))).collect()
        };
        descents.iter().map(|d| Line { label: d.label.clone(), points: points(d), band: Vec::new() }).collect()
    };
    let save = |stem: &str, title: &str, x_label: &str, y_label: &str, lines: Vec<Line>, level: Option<f64>| {
        let title = format!("{title}, {} separable points in {dimension} dimensions", args.points);
        let plot = Plot {
            title,
            x_label: x_label.to_owned(),
            y_label: y_label.to_owned(),
            y_scale: Scale::Linear,
            lines,
            level,
        };
        plot.save(&args.out.join(stem))
    };
    let steps = "log10 of gradient steps";
    let margin = over_steps(&|record| record.relative_margin);
    save("separable-margin", "Margin", steps, "margin over the max margin", margin, Some(1.0))?;
    let angle = over_steps(&|record| record.angle_degrees);
    save("separable-angle", "Angle to the max-margin direction", steps, "degrees", angle, None)?;
    let excess = over_steps(&|record| record.excess.log10());
    save("separable-loss", "Loss", steps, "log10 of loss less its infimum", excess, None)?;
    let margins: Vec<f64> = (-40..=40).map(|i| f64::from(i) / 4.0).collect();
    let lines = curvatures(problem, &margins)?.into_iter().map(|Curvature { label, least_eigenvalues }| {
        let points = least_eigenvalues.iter().map(|&(margin, value)| (margin, value.log10())).collect();
        Line { label, points, band: Vec::new() }
    });
    let x_label = "margin of the closest point, w along the max-margin direction";
    save(
        "separable-curvature",
        "Strict convexity",
        x_label,
        "log10 of the Hessian's least eigenvalue",
        lines.collect(),
        None,
    )?;
    Ok(())
}
