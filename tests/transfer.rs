//! What a transfer leaves alone: FreezeD, the mapping and coarse blocks of the generator; and how it starts.
// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::path::Path;

use rootgan::config::{Options, Pairing};
use rootgan::model::{FreezeSettings, Parameter, ScriptModule};
use rootgan::run::networks::{NetworkFiles, save_networks};
use rootgan::run::snapshot::SnapshotFiles;
use rootgan::tensor::no_grad;
use rootgan::train::Reals;
use rootgan::train::stats::Statistics;
use rootgan::train::{Networks, Trainer};
use tch::{Device, Kind, Tensor};

fn files() -> NetworkFiles {
    common::configure_torch();
    let (generator, discriminator) = common::pair16();
    NetworkFiles { generator, discriminator, ..NetworkFiles::default() }
}

fn load(freeze: FreezeSettings) -> Networks {
    files().load(freeze, Device::Cpu).unwrap_or_else(|error| panic!("{error:#}"))
}

fn refusal(files: &NetworkFiles, freeze: FreezeSettings) -> String {
    format!("{:#}", files.load(freeze, Device::Cpu).err().expect("it is refused"))
}

fn copies(parameters: &[Parameter]) -> Vec<(String, Tensor)> {
    parameters.iter().map(|p| (p.name.clone(), p.tensor.detach().copy())).collect()
}

fn trainer(networks: Networks, more: Options) -> Trainer {
    common::trainer(networks, Options { batch: Some(4), ..more })
}

fn train(networks: Networks, more: Options) -> Trainer {
    let mut trainer = trainer(networks, more);
    tch::manual_seed(3);
    let reals = Reals::unlabelled(Tensor::rand([4, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0 - 1.0);
    let mut stats = Statistics::default();
    (0..2).for_each(|_| trainer.iterate(&reals, &mut stats).unwrap());
    trainer
}

/// The layers, without the last part of the parameters' names, that moved.
fn moved(before: &[(String, Tensor)], after: &[Parameter]) -> BTreeSet<String> {
    let changed = before.iter().zip(after).filter(|((_, a), b)| *a != b.tensor);
    changed.map(|((name, _), _)| name.rsplit_once('.').unwrap().0.to_owned()).collect()
}

/// Ways to train that freezing has to hold in.
fn ways() -> [Options; 2] {
    [Options::default(), Options { pairing: Some(Pairing::Relativistic), r2_gamma: Some(1.0), ..Options::default() }]
}

#[test]
fn freeze_d_leaves_the_first_layers_in_the_published_order() {
    let order = ["b16.fromrgb", "b16.conv0", "b16.conv1", "b16.skip", "b8.conv0", "b8.conv1", "b8.skip"];
    for (count, way) in [0, 1, 4, 5, 7].into_iter().flat_map(|count| ways().map(|way| (count, way))) {
        let networks = load(FreezeSettings { d_layers: count as u64, ..FreezeSettings::default() });
        let before = copies(&networks.d.script.parameters);
        let trainer = train(networks, way);
        let moved = moved(&before, &trainer.networks.d.script.parameters);
        let still: Vec<_> = order.iter().copied().filter(|layer| !moved.contains(*layer)).collect();
        assert_eq!(still, order[..count], "{count} frozen");
        assert!(["b4.conv", "b4.fc", "b4.out"].iter().all(|layer| moved.contains(*layer)), "{moved:?}");
    }
}

#[test]
fn frozen_mapping_and_coarse_blocks_stay_in_both_generators_and_the_rest_moves() {
    for way in ways() {
        let networks = load(FreezeSettings { g_blocks: 2, mapping: true, ..FreezeSettings::default() });
        let (before, before_ema) = (copies(&networks.g.script.parameters), copies(&networks.g_ema.script.parameters));
        let trainer = train(networks, way);
        for (before, after) in [(before, &trainer.networks.g), (before_ema, &trainer.networks.g_ema)] {
            let moved = moved(&before, &after.script.parameters);
            // w_avg is no weight: it goes on following the mean of w.
            let frozen = |layer: &&String| {
                layer.starts_with("mapping.") || layer.starts_with("synthesis.b4") || layer.starts_with("synthesis.b8")
            };
            assert_eq!(moved.iter().filter(frozen).collect::<Vec<_>>(), Vec::<&String>::new());
            assert!(moved.contains("synthesis.b16.conv0") && moved.contains("mapping"), "{moved:?}");
        }
    }
}

#[test]
fn frozen_noise_keeps_its_strengths_and_nothing_else() {
    let strengths = |parameters: &[Parameter]| -> Vec<Tensor> {
        let named = parameters.iter().filter(|p| p.name.ends_with(".noise_strength"));
        named.map(|p| p.tensor.detach().copy()).collect()
    };
    for noise in [false, true] {
        let networks = load(FreezeSettings { noise, ..FreezeSettings::default() });
        let (before, all) = (strengths(&networks.g.script.parameters), copies(&networks.g.script.parameters));
        let trainer = train(networks, Options::default());
        let after = strengths(&trainer.networks.g.script.parameters);
        assert_eq!((before.len(), before == after), (5, noise));
        let moved = moved(&all, &trainer.networks.g.script.parameters);
        assert!(moved.contains("synthesis.b16.conv0") && moved.contains("mapping.fc0"), "{moved:?}");
    }
    // A generator of another architecture, with something to train and no noise.
    const CODE: &str = "\
class G(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(64, 768)
    def forward(self, z):
        return self.net(z).reshape(-1, 3, 16, 16)
net = G()
";
    let place = tempfile::tempdir().unwrap();
    let (generator, discriminator) = (common::z_only_generator(place.path(), CODE), files().discriminator);
    let files = NetworkFiles { generator, discriminator, ..NetworkFiles::default() };
    let message = refusal(&files, FreezeSettings { noise: true, ..FreezeSettings::default() });
    assert!(message.contains("leave --freeze-noise away"), "{message}");
}

#[test]
fn saved_networks_can_be_trained_again_as_a_whole() {
    let mut networks = load(FreezeSettings { d_layers: 3, g_blocks: 1, mapping: true, noise: true });
    let place = tempfile::tempdir().unwrap();
    let snapshot = SnapshotFiles::at(place.path(), 0);
    save_networks(&mut networks, &snapshot, &serde_json::json!({})).unwrap();
    let files = files();
    for (saved, original) in
        [(&snapshot.g, &files.generator), (&snapshot.g_ema, &files.generator), (&snapshot.d, &files.discriminator)]
    {
        let trainable = |path: &Path| -> Vec<bool> {
            ScriptModule::load(path, Device::Cpu).unwrap().parameters.iter().map(|p| p.trainable).collect()
        };
        assert_eq!(trainable(saved), trainable(original));
    }
    // The run goes on as it was.
    assert!(networks.d.script.parameters.iter().any(|p| p.name == "b16.conv0.weight" && !p.tensor.requires_grad()));
    let layer = |p: &Parameter| p.name == "b8.conv0.weight";
    assert!(networks.d.script.parameters.iter().any(|p| layer(p) && p.tensor.requires_grad()));
}

#[test]
fn more_frozen_layers_than_there_are_is_an_error_with_the_number() {
    let of = |d_layers, g_blocks| refusal(&files(), FreezeSettings { d_layers, g_blocks, mapping: true, noise: false });
    assert!(of(8, 0).contains("has 7 layers"), "{}", of(8, 0));
    assert!(of(0, 4).contains("synthesis.b32."), "{}", of(0, 4));
    assert!(of(0, 3).contains("nothing of"), "{}", of(0, 3));
}

/// The average moves by what is trained alone: frozen weights that differed would differ for good.
#[test]
fn what_is_frozen_is_that_of_the_averaged_generator_in_both() {
    let place = tempfile::tempdir().unwrap();
    let raw = place.path().join("raw.pt");
    let mut networks = load(FreezeSettings::default());
    let weights = |p: &&Parameter| p.trainable || p.name.ends_with("w_avg");
    networks.g.script.parameters.iter().filter(weights).for_each(|p| {
        let other = p.tensor.detach() * 0.5 + 0.25;
        no_grad(|| p.tensor.detach().copy_(&other));
    });
    networks.g.script.save(&raw).unwrap();
    let both = NetworkFiles { generator_raw: Some(raw), ..files() };
    let freeze = FreezeSettings { g_blocks: 1, mapping: true, ..FreezeSettings::default() };
    let frozen = |name: &str| name.starts_with("mapping.") || name.starts_with("synthesis.b4.");
    let networks = both.load(freeze, Device::Cpu).unwrap();
    let ema = copies(&networks.g_ema.script.parameters);
    let trained_differ = |networks: &Networks| {
        let pairs = networks.g.script.parameters.iter().zip(&ema);
        pairs.filter(|(p, (_, of_ema))| p.tensor != *of_ema).map(|(p, _)| p.name.clone()).collect::<Vec<_>>()
    };
    let differ = trained_differ(&networks);
    assert!(differ.iter().all(|name| !frozen(name)) && differ.iter().any(|n| n == "synthesis.b8.conv0.weight"));
    // It is what the average began with, through the training.
    let trainer = train(networks, Options::default());
    let differ = trained_differ(&trainer.networks);
    let weights = |name: &&String| frozen(name) && !name.ends_with("w_avg");
    assert_eq!(differ.iter().filter(weights).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn the_average_starts_from_the_averaged_generator_and_training_from_the_raw_one() {
    let place = tempfile::tempdir().unwrap();
    let raw = place.path().join("raw.pt");
    let mut networks = load(FreezeSettings::default());
    let _ = no_grad(|| networks.g_flat.values.shallow_clone().multiply_(&Tensor::from(0.5f32)));
    networks.g.script.save(&raw).unwrap();
    let both = NetworkFiles { generator_raw: Some(raw), ..files() };
    let networks = both.load(FreezeSettings::default(), Device::Cpu).unwrap();
    let weight = |parameters: &[Parameter]| {
        parameters.iter().find(|p| p.name == "synthesis.b8.conv0.weight").unwrap().tensor.detach().copy()
    };
    let (of_raw, of_ema) = (weight(&networks.g.script.parameters), weight(&networks.g_ema.script.parameters));
    assert_eq!(of_raw * 2.0, of_ema);
    let (other, _) = common::shipped_pair("net_uncond_r32.safetensors");
    let message = refusal(&NetworkFiles { generator_raw: Some(other), ..files() }, FreezeSettings::default());
    assert!(message.contains("raw and the averaged weights of one generator"), "{message}");
}

#[test]
fn the_learning_rates_rise_over_the_warm_up() {
    let step_of = |lr_warmup_kimg| {
        let networks = load(FreezeSettings::default());
        let (g, d) = (networks.g_flat.values.copy(), networks.d_flat.values.copy());
        let options = Options {
            lr_warmup_kimg: Some(lr_warmup_kimg),
            pl_weight: Some(0.0),
            r1_gamma: Some(0.0),
            ..Options::default()
        };
        let mut trainer = trainer(networks, options);
        tch::manual_seed(3);
        let reals = Reals::unlabelled(Tensor::rand([4, 3, 16, 16], (Kind::Float, Device::Cpu)) * 2.0 - 1.0);
        trainer.iterate(&reals, &mut Statistics::default()).unwrap();
        let length = |before: Tensor, after: &Tensor| (after - before).norm().double_value(&[]);
        (length(g, &trainer.networks.g_flat.values), length(d, &trainer.networks.d_flat.values))
    };
    let (whole, tenth) = (step_of(0.0), step_of(0.04));
    // After 4 of 40 images.
    assert!((tenth.0 / whole.0 - 0.1).abs() < 1e-3, "{tenth:?} {whole:?}");
    // D sees pictures of the G that took the smaller step: about.
    assert!((tenth.1 / whole.1 - 0.1).abs() < 0.02, "{tenth:?} {whole:?}");
}
