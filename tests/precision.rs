//! 16-bit types from Rust: gradients of all phases close to float32, and files that begin in float32.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use rootgan::augment::Augment;
use rootgan::model::{FreezeSettings, Generator, NoiseMode, Precision, PrecisionKind, Truncation};
use rootgan::run::networks::NetworkFiles;
use rootgan::tensor::no_grad;
use rootgan::train::draw::Draw;
use rootgan::train::objective::{AdversarialLoss, Rooted, Seen};
use rootgan::train::phases::{self, mean};
use rootgan::train::regularizers::MeanPathLength;
use rootgan::train::{Networks, Reals};
use tch::{Device, Kind, Tensor};

const BF16: Precision = Precision { kind: PrecisionKind::Bf16, resolutions: 4 };

fn networks() -> Networks {
    common::configure_torch();
    let (generator, discriminator) = common::shipped_pair("net_uncond_r32.safetensors");
    let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
    files.load(FreezeSettings::default(), Device::Cpu).unwrap()
}

fn seeded(shape: [i64; 2]) -> Tensor {
    tch::manual_seed(7);
    Tensor::randn(shape, (Kind::Float, Device::Cpu))
}

/// The gradients of Gmain, Greg, Dmain (its real half) and Dreg, for the same draws.
fn gradients(n: &Networks) -> [(&'static str, Tensor); 4] {
    let loss = AdversarialLoss::Rooted(Rooted::new(2.0, None).unwrap());
    let draw = || Draw { z: seeded([4, n.g.z_dim()]), c: None, mixing: None, noise: NoiseMode::Const };
    let reals = Reals::unlabelled(seeded([4, 3 * 32 * 32]).view([4, 3, 32, 32]).tanh());
    let unit_noise = seeded([4, 3 * 32 * 32]).view([4, 3, 32, 32]);
    let mut off = Augment::off();
    let gmain = phases::generator_main(&n.g, &n.d, &loss, &draw(), &reals, &mut off).unwrap().losses;
    let mut pl_mean = MeanPathLength::new(Device::Cpu);
    let greg = phases::generator_reg(&n.g, &mut pl_mean, &draw(), Some(&unit_noise)).unwrap();
    let dmain = phases::discriminator_main(&n.g, &n.d, &loss, Seen::Reals, &draw(), &reals, &mut off).unwrap().losses;
    let dreg = phases::discriminator_reg(&n.d, &reals, &mut off).unwrap();
    [
        ("Gmain", n.g_flat.gradient(&mean(&gmain)).unwrap()),
        ("Greg", n.g_flat.gradient(&mean(&greg)).unwrap()),
        ("Dmain", n.d_flat.gradient(&mean(&dmain)).unwrap()),
        ("Dreg", n.d_flat.gradient(&mean(&dreg)).unwrap()),
    ]
}

/// Measured on two CPUs: directions differ by 1 - cosine <= 1.1e-3, lengths by <= 1 %; five times that is allowed.
#[test]
fn gradients_in_bf16_point_where_those_in_fp32_do() {
    let mut networks = networks();
    let exact = gradients(&networks);
    networks.set_precision(BF16).unwrap();
    let reduced = gradients(&networks);
    for ((phase, exact), (_, reduced)) in exact.iter().zip(&reduced) {
        let (a, b) = (exact.to_kind(Kind::Double), reduced.to_kind(Kind::Double));
        let length = |t: &Tensor| t.norm().double_value(&[]);
        let cosine = a.dot(&b).double_value(&[]) / (length(&a) * length(&b));
        assert_ne!(a, b, "{phase}: the type was changed");
        assert!(1.0 - cosine < 5.5e-3, "{phase}: 1 - cosine {}", 1.0 - cosine);
        assert!((length(&b) / length(&a) - 1.0).abs() < 0.05, "{phase}: {} against {}", length(&b), length(&a));
    }
    networks.set_precision(Precision::default()).unwrap();
    for ((phase, exact), (_, again)) in exact.iter().zip(&gradients(&networks)) {
        let difference = (exact - again).norm().double_value(&[]) / exact.norm().double_value(&[]);
        assert!(difference < 1e-5, "{phase}: {difference}");
    }
}

#[test]
fn a_run_in_bf16_writes_files_that_begin_in_fp32() {
    let place = tempfile::tempdir().unwrap();
    let (data, runs) = (place.path().join("discs"), place.path().join("runs"));
    common::picture_folder(&data, 8, 16);
    let finetune = Finetune::new(&common::pair16(), &data, &runs);
    let run = &finetune.with(["--batch", "4", "--kimg", "0.02", "--precision", "bf16"]).run();
    let log = std::fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains(", bf16"), "{log}");
    let saved = rootgan::run::snapshot::find(run).unwrap();
    let g = Generator::load(&saved.g, Device::Cpu, None).unwrap();
    let z = seeded([2, g.z_dim()]);
    let draw = || no_grad(|| g.images(&z, None, Truncation::OFF, NoiseMode::Const, None).unwrap());
    let images = draw();
    g.script.set_precision(Precision::default()).unwrap();
    assert_eq!(draw(), images);
    g.script.set_precision(BF16).unwrap();
    assert_ne!(draw(), images);
}

#[test]
fn networks_without_the_method_are_refused_before_the_run() {
    let place = tempfile::tempdir().unwrap();
    common::picture_folder(&place.path().join("discs"), 8, 16);
    let generator = common::z_only_generator(
        place.path(),
        "class G(torch.nn.Module):\n    \
             def __init__(self):\n        \
                 super().__init__()\n        \
                 self.w = torch.nn.Parameter(torch.ones(1))\n    \
             def forward(self, z):\n        \
                 return (z[:, :3] * self.w).reshape(-1, 3, 1, 1).repeat(1, 1, 16, 16)\n\
         net = G()\n",
    );
    let (_, discriminator) = common::pair16();
    Finetune::new(&(generator, discriminator), &place.path().join("discs"), place.path())
        .with(["--batch", "4", "--precision", "bf16"])
        .command()
        .assert()
        .code(1)
        .stderr(predicates::str::contains("compute in float32 only"));
}
