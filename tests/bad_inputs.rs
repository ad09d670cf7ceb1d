//! A table of bad inputs: each is refused with exit code 1 and one line that names the file and the remedy.

// Helpers of tests are tests: clippy's exception covers only the functions marked so.
#![allow(clippy::unwrap_used)]

mod common;

use common::command::Finetune;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The longest message that anyone reads.
const MOST_CHARS: usize = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Network,
    Description,
    Pictures,
    Labels,
    Config,
    Checkpoint,
    Snapshot,
    Other,
}

struct Case {
    group: Group,
    name: &'static str,
    /// Writes what is bad.
    make: fn(&Stage),
    /// In which `{}` is the stage's folder. `finetune` stands for a whole command that would work; flags that come later
    /// win.
    command: &'static str,
    /// Parts of the message.
    words: &'static [&'static str],
}

const fn case(
    group: Group,
    name: &'static str,
    command: &'static str,
    words: &'static [&'static str],
    make: fn(&Stage),
) -> Case {
    Case { group, name, make, command, words }
}

/// For what is bad without a file.
fn nothing(_: &Stage) {}

use Group::{Checkpoint, Config, Description, Labels, Network, Other, Pictures, Snapshot};

#[rustfmt::skip] // A case is a line, or two.
const CASES: &[Case] = &[
    case(Network, "no generator", "finetune --generator {}/no.pt", &["no.pt", "no such file", "check the path"], nothing),
    case(Network, "an empty file", "finetune --generator {}/a.pt", &["a.pt", "an empty file", "copy or download it again"],
        |s| s.write("a.pt", "")),
    case(Network, "a folder", "finetune --discriminator {}/pictures", &["pictures'", "a folder", "pass a TorchScript file"], nothing),
    case(Network, "a device", "finetune --generator /dev/zero", &["/dev/zero", "pass a TorchScript file"], nothing),
    case(Network, "a text", "finetune --generator {}/a.pt", &["a.pt", "a text file", "pass networks"],
        |s| s.write("a.pt", "hello")),
    case(Network, "a picture", "finetune --generator {}/pictures/picture000.png", &["picture000.png", "a picture", "--data"], nothing),
    case(Network, "a zip of pictures", "finetune --generator {}/a.zip", &["a.zip", "a zip archive", "--data"],
        |s| zip_of(&s.path("a.zip"), &[("a.png", b"x")])),
    case(Network, "a truncated generator", "finetune --generator {}/cut.pt", &["cut.pt", "damaged", "copy or download it again"],
        |s| s.write("cut.pt", &s.bytes("g.pt")[..30_000])),
    case(Network, "a generator with a flipped bit", "finetune --generator {}/flip.pt", &["flip.pt", "is damaged", "export it again"],
        |s| s.write("flip.pt", flipped(s.bytes("g.pt")))),
    case(Network, "a discriminator with a flipped bit", "export --generator {}/g.pt --discriminator {}/flip.pt --out {}/out",
        &["flip.pt", "is damaged", "export it again"], |s| s.write("flip.pt", flipped(s.bytes("d.pt")))),
    case(Network, "a swapped pair", "finetune --generator {}/d.pt --discriminator {}/g.pt", &["d.pt", "is a discriminator", "swapped"], nothing),
    case(Network, "a generator as discriminator", "bench --generator {}/g.pt --discriminator {}/g.pt", &["g.pt", "is a generator", "swapped"], nothing),
    case(Network, "safetensors", "finetune --generator {}/w.safetensors", &["w.safetensors", "weights alone", "pass it as --from"],
        |s| s.write("w.safetensors", golden("rosinality_like_r32_io.safetensors"))),
    case(Network, "a pickle", "finetune --generator {}/a.pkl", &["a.pkl", "NVIDIA StyleGAN pickle", "rootgan import"],
        |s| s.write("a.pkl", golden("nvidia_like_r32.pkl"))),
    case(Network, "a checkpoint of torch.save", "generate --generator {}/a.pt --seeds 0 --outdir {}/out",
        &["a.pt", "torch.save", "rootgan import"], |s| s.write("a.pt", golden("rosinality_like_r32.pt"))),
    case(Network, "another generator as raw", "finetune --generator-raw {}/Generator.pt", &["Generator.pt", "pass generator_raw.pt and generator.pt"], nothing),
    case(Network, "forward of two arguments", "finetune --generator {}/TwoArguments.pt", &["TwoArguments.pt", "--z-dim"], nothing),
    case(Network, "forward that returns a pair", "finetune --generator {}/Pair.pt", &["Pair.pt", "weights/README.md"], nothing),
    case(Network, "pictures that are not square", "finetune --generator {}/NotSquare.pt", &["NotSquare.pt", "[2, 3, 16, 8]", "pass another file"], nothing),
    case(Network, "pictures of doubles", "finetune --generator {}/Double.pt", &["Double.pt", "of type Double", "weights/README.md"], nothing),
    case(Network, "pictures of bytes", "finetune --generator {}/Bytes.pt", &["Bytes.pt", "of type Uint8", "weights/README.md"], nothing),
    case(Network, "a shape that depends on the batch", "finetune --generator {}/AtMostTwo.pt", &["AtMostTwo.pt", "[2, 3, 16, 16]", "export it again"], nothing),
    case(Network, "pictures that are no numbers", "finetune --generator {}/Nan.pt", &["Nan.pt", "not finite", "weights/README.md"], nothing),
    case(Network, "weights that are no numbers", "generate --generator {}/NanWeights.pt --seeds 0 --outdir {}/out",
        &["NanWeights.pt", "not finite", "use others"], nothing),
    case(Network, "a generator that raises", "finetune --generator {}/Raises.pt", &["Raises.pt", "nor tomorrow", "--z-dim"], nothing),
    case(Network, "a generator that cannot learn", "finetune --generator {}/Detached.pt", &["Detached.pt", "do not depend", "weights/README.md"], nothing),
    case(Network, "a frozen generator", "finetune --generator {}/Frozen.pt", &["Frozen.pt", "no trainable parameters", "export it without torch.jit.freeze"], nothing),
    case(Network, "weights of doubles", "finetune --generator {}/DoubleWeights.pt", &["DoubleWeights.pt", "Double", "convert it with .float()"], nothing),
    case(Network, "a discriminator of two arguments", "finetune --discriminator {}/CriticOfTwo.pt", &["CriticOfTwo.pt", "weights/README.md"], nothing),
    case(Network, "a discriminator that returns a pair", "finetune --discriminator {}/CriticPair.pt", &["CriticPair.pt", "one tensor", "export it again"], nothing),
    case(Network, "a discriminator of pixels", "finetune --discriminator {}/CriticOfPixels.pt", &["CriticOfPixels.pt", "no discriminator", "weights/README.md"], nothing),
    case(Network, "logits that are no numbers", "finetune --discriminator {}/CriticNan.pt", &["CriticNan.pt", "not finite", "weights/README.md"], nothing),
    case(Network, "logits of integers", "finetune --discriminator {}/CriticInt.pt", &["CriticInt.pt", "of type Int", "weights/README.md"], nothing),
    case(Network, "a discriminator that cannot learn", "finetune --discriminator {}/CriticDetached.pt", &["CriticDetached.pt", "no gradient", "weights/README.md"], nothing),
    case(Network, "a generator without second derivatives", "finetune --generator {}/GeneratorOnce.pt", &["GeneratorOnce.pt", "path length", "--pl-weight 0"], nothing),
    case(Network, "a discriminator without second derivatives", "finetune --discriminator {}/CriticOnce.pt", &["CriticOnce.pt", "R1", "--r1-gamma 0"], nothing),
    case(Network, "a discriminator that raises", "bench --generator {}/g.pt --discriminator {}/CriticRaises.pt",
        &["CriticRaises.pt", "images must be 64x64", "weights/README.md"], nothing),
    case(Network, "a width of z below 1", "generate --generator {}/Generator.pt --z-dim 0 --seeds 0 --outdir {}/out", &["Generator.pt", "--z-dim 0", "pass 1 to"], nothing),
    case(Network, "a width of z beyond memory", "inspect {}/Generator.pt --z-dim 1000000000000", &["Generator.pt", "pass 1 to"], nothing),

    case(Description, "another width of z", "finetune --generator {}/LiarZ.pt", &["LiarZ.pt", "z must be [N, 8]", "weights/README.md"], nothing),
    case(Description, "another resolution", "generate --generator {}/LiarResolution.pt --seeds 0 --outdir {}/out",
        &["LiarResolution.pt", "[1, 3, 16, 16]", "[1, 3, 32, 32] is expected", "export it again"], nothing),
    case(Description, "a width beyond memory", "finetune --generator {}/LiarHuge.pt", &["LiarHuge.pt", "z_dim 1000000000000000", "export it again"], nothing),
    case(Description, "a negative size", "dump --generator {}/LiarNegative.pt --out {}/out", &["LiarNegative.pt", "img_resolution -16", "export it again"], nothing),
    case(Description, "another contract", "finetune --generator {}/LiarVersion.pt", &["LiarVersion.pt", "version 2", "export it again"], nothing),
    case(Description, "a size left out", "finetune --generator {}/LiarSizes.pt", &["LiarSizes.pt", "w_dim", "export it again"], nothing),
    case(Description, "a size that is a word", "finetune --generator {}/LiarType.pt", &["LiarType.pt", "eight", "export it again"], nothing),
    case(Description, "another kind", "inspect {}/LiarKind.pt", &["LiarKind.pt", "encoder", "generator is expected"], nothing),
    case(Description, "a description that fails", "generate --generator {}/DescribeRaises.pt --seeds 0 --outdir {}/out",
        &["DescribeRaises.pt", "describe() failed", "no sizes yet", "mend the method or leave it out"], nothing),
    case(Description, "a description that is no text", "finetune --generator {}/DescribeNumber.pt",
        &["DescribeNumber.pt", "describe() returns no text", "mend the method or leave it out"], nothing),
    case(Description, "no JSON", "generate --generator {}/LiarText.pt --seeds 0 --outdir {}/out", &["LiarText.pt", "not JSON", "export it again"], nothing),
    case(Description, "no method run_mapping", "finetune --generator {}/LiarWithoutMapping.pt", &["LiarWithoutMapping.pt", "run_mapping", "weights/README.md"], nothing),

    case(Pictures, "no such folder", "finetune --data {}/nowhere", &["nowhere", "check the path"], nothing),
    case(Pictures, "an empty folder", "finetune --data {}/empty", &["empty'", "no files at all", "pass the folder"], |s| s.folder("empty")),
    case(Pictures, "no usable picture", "finetune --data {}/bad", &["bad'", "3 of 3", "a.png", "the file is empty", "repair or remove", "rootgan dataset"],
        |s| { s.write("bad/a.png", ""); s.write("bad/b.jpg", "text"); s.write("bad/c.gif", "GIF89a"); }),
    case(Pictures, "a truncated jpeg", "finetune --data {}/bad", &["bad'", "cut.jpg", "cut short", "repair or remove"],
        |s| s.write("bad/cut.jpg", &s.jpeg()[..500])),
    case(Pictures, "a truncated png", "finetune --data {}/bad", &["bad'", "cut.png", "repair or remove"],
        |s| s.write("bad/cut.png", &s.bytes("pictures/picture000.png")[..100])),
    case(Pictures, "a png of 100000x100000", "finetune --data {}/bad", &["bad'", "bomb.png", "repair or remove"],
        |s| s.write("bad/bomb.png", png_header(100_000))),
    case(Pictures, "a name with a line feed", "finetune --data {}/bad", &["bad'", "a\\nerror: b.png", "repair or remove"],
        |s| s.write("bad/a\nerror: b.png", "")),
    case(Pictures, "a text named zip", "finetune --data {}/a.zip", &["a.zip", "neither a folder nor a zip", "pass the folder or zip"],
        |s| s.write("a.zip", "hello")),
    case(Pictures, "a tar", "dataset {}/a.tar", &["a.tar", "neither a folder nor a zip", "unpack it first"], |s| s.write("a.tar", "ustar")),
    case(Pictures, "a truncated zip", "finetune --data {}/cut.zip", &["cut.zip", "pass a folder of pictures or a whole zip"],
        |s| { let zip = s.zip(); s.write("cut.zip", &zip[..zip.len() / 2]); }),
    case(Pictures, "an encrypted zip", "finetune --data {}/locked.zip", &["locked.zip", "Password", "without a password"],
        |s| s.write("locked.zip", patched(s.zip(), 6, 8, 1))),
    case(Pictures, "a zip with a wrong checksum", "finetune --data {}/sum.zip", &["sum.zip", "checksum", "repair or remove"],
        |s| s.write("sum.zip", patched(s.zip(), 14, 16, 0xff))),
    case(Pictures, "a zip of an unknown method", "finetune --data {}/method.zip", &["method.zip", "ompression", "stored or deflated"],
        |s| s.write("method.zip", patched(s.zip(), 8, 10, 93))),
    case(Pictures, "a zip without pictures", "finetune --data {}/none.zip", &["none.zip", "1 other file: 1 txt", "pass the zip"],
        |s| zip_of(&s.path("none.zip"), &[("a.txt", b"x")])),
    case(Pictures, "a subset of more than there are", "finetune --data {}/pictures --subset 100", &["pictures'", "pass a --subset of 1 to 8"], nothing),
    case(Pictures, "several sizes without --resolution", "dataset {}/bad {}/clean", &["bad'", "pass --resolution"],
        |s| { common::picture_folder(&s.path("bad"), 1, 16); s.write("bad/b.jpg", s.jpeg()); }),
    case(Pictures, "nothing that could be converted", "dataset {}/bad {}/clean --resolution 16", &["bad'", "the report says why", "repair"],
        |s| s.write("bad/a.png", "text")),

    case(Labels, "no labels", "finetune-labelled --data {}/pictures", &["pictures'", "a folder of their own", "dataset.json"], nothing),
    case(Labels, "no JSON", "finetune-labelled --data {}/bad", &["bad/dataset.json", "the form is"], |s| s.labels("{")),
    case(Labels, "a list", "finetune-labelled --data {}/bad", &["bad/dataset.json", "the form is"], |s| s.labels("[1, 2]")),
    case(Labels, "labels of another shape", "finetune-labelled --data {}/bad", &["bad/dataset.json", "the form is"],
        |s| s.labels(r#"{"labels": {"picture000.png": 0}}"#)),
    case(Labels, "a negative class", "finetune-labelled --data {}/bad", &["bad/dataset.json", "the form is"],
        |s| s.labels(r#"{"labels": [["picture000.png", -1]]}"#)),
    case(Labels, "a class beyond 32 bits", "dataset {}/bad --labels json", &["bad/dataset.json", "the form is", "--labels none"],
        |s| s.labels(r#"{"labels": [["picture000.png", 99999999999]]}"#)),
    case(Labels, "a class beyond the networks'", "finetune-labelled --data {}/bad", &["bad'", "class 7", "rootgan new --c-dim"],
        |s| s.labels(r#"{"labels": [["picture000.png", 7], ["picture001.png", 0]]}"#)),
    case(Labels, "a class beyond reason", "dataset {}/bad", &["bad'", "class 4000000000", "--labels none"],
        |s| s.labels(r#"{"labels": [["picture000.png", 4000000000], ["picture001.png", 0]]}"#)),
    case(Labels, "a picture that is not named", "finetune-labelled --data {}/bad", &["bad/dataset.json", "1 of 2", "picture001.png", "add them or remove"],
        |s| s.labels(r#"{"labels": [["picture000.png", 0]]}"#)),
    case(Labels, "deep nesting", "finetune-labelled --data {}/bad", &["bad/dataset.json", "the form is"],
        |s| s.labels(&deep("labels", 100_000))),

    case(Config, "no such file", "finetune --config {}/no.json", &["no.json", "check the path"], nothing),
    case(Config, "a folder", "finetune --config {}/pictures", &["pictures'", "check the path"], nothing),
    case(Config, "a file without end", "finetune --config /dev/zero", &["/dev/zero", "a pipe or a device", "check the path"], nothing),
    case(Config, "an empty file", "finetune --config {}/c.json", &["c.json", "EOF", "the flags of `rootgan finetune`"], |s| s.write("c.json", "")),
    case(Config, "UTF-16", "finetune --config {}/c.json", &["c.json", "save it as UTF-8"], |s| s.write("c.json", b"\xff\xfe{\0}\0")),
    case(Config, "an unknown key", "finetune --config {}/c.json", &["c.json", "`rootk`", "did you mean `root_k`?"], |s| s.write("c.json", r#"{"rootk": 3}"#)),
    case(Config, "a word for a number", "finetune --config {}/c.json", &["c.json", "`batch`", "invalid type", "the flags of"],
        |s| s.write("c.json", r#"{"batch": "eight"}"#)),
    case(Config, "a negative number", "finetune --config {}/c.json", &["c.json", "`batch`", "-8", "the flags of"], |s| s.write("c.json", r#"{"batch": -8}"#)),
    case(Config, "a key twice", "finetune --config {}/c.json", &["c.json", "duplicate field `batch`", "the flags of"],
        |s| s.write("c.json", r#"{"batch": 8, "batch": 4}"#)),
    case(Config, "no object", "finetune --config {}/c.json", &["c.json", "no JSON object", "write {"], |s| s.write("c.json", "[]")),
    case(Config, "deep nesting", "finetune --config {}/c.json", &["c.json", "recursion limit", "the flags of"], |s| s.write("c.json", deep("about", 100_000))),
    case(Config, "a grid that is none", "finetune --config {}/c.json", &["c.json", "'8by4' is no grid", "write COLUMNSxROWS"],
        |s| s.write("c.json", r#"{"grid": "8by4"}"#)),
    case(Config, "numbers out of range", "finetune --config {}/c.json", &["--tick-kimg 1e300", "--g-lr must be above 0", "--target must be from -1 to 1"],
        |s| s.write("c.json", r#"{"tick_kimg": 1e300, "g_lr": 0, "target": 7}"#)),
    case(Config, "an unknown preset", "finetune --cfg papr256", &["papr256", "there are auto", "--config"], nothing),

    case(Checkpoint, "no such run", "finetune-resume --resume {}/nowhere", &["nowhere", "no such run directory", "check the path"], nothing),
    case(Checkpoint, "a folder that is no run", "finetune-resume --resume {}/pictures", &["pictures'", "no checkpoints", "pass the folder of a run"], nothing),
    case(Checkpoint, "a manifest that is no JSON", "finetune-resume --resume {}/run", &["run'", "checkpoint.json' is damaged", "begin a new run"],
        |s| { s.run(); s.write(&s.checkpoint("checkpoint.json"), "{") }),
    case(Checkpoint, "a manifest of another shape", "finetune-resume --resume {}/run", &["run'", "checkpoint.json' is damaged", "begin a new run"],
        |s| { s.run(); s.write(&s.checkpoint("checkpoint.json"), "[1]") }),
    case(Checkpoint, "a manifest with a changed number", "finetune-resume --resume {}/run", &["run'", "checkpoint.json' is damaged", "sha256", "begin a new run"],
        |s| { s.run(); let manifest = s.checkpoint("checkpoint.json"); let text = String::from_utf8(s.bytes(&manifest)).unwrap();
            s.write(&manifest, text.replace("\"lr_scale\": 1.0", "\"lr_scale\": 0.5")) }),
    case(Checkpoint, "a manifest of another version", "finetune-resume --resume {}/run", &["run'", "format 7", "use the one that wrote it"],
        |s| { s.run(); s.change(&s.checkpoint("checkpoint.json"), |manifest| manifest["version"] = json!(7)) }),
    case(Checkpoint, "numbers that cannot be", "finetune-resume --resume {}/run", &["run'", "is damaged", "begin a new run"],
        |s| { s.run(); s.change(&s.checkpoint("checkpoint.json"), |manifest| manifest["trainer"]["augment_p"] = json!(7)) }),
    case(Checkpoint, "events in another folder", "finetune-resume --resume {}/run", &["run'", "is damaged", "begin a new run"],
        |s| { s.run(); s.change(&s.checkpoint("checkpoint.json"), |manifest| manifest["journal"]["events"] = json!("../precious")) }),
    case(Checkpoint, "a state with a flipped bit", "finetune-resume --resume {}/run", &["run'", "state.safetensors' is damaged", "begin a new run"],
        |s| { s.run(); let state = s.checkpoint("state.safetensors"); s.write(&state, flipped(s.bytes(&state))) }),
    case(Checkpoint, "no state", "finetune-resume --resume {}/run", &["run'", "state.safetensors'", "begin a new run"],
        |s| { s.run(); fs::remove_file(s.path(&s.checkpoint("state.safetensors"))).unwrap() }),
    case(Checkpoint, "the state of other networks", "finetune-resume --resume {}/run --override --kimg 1", &["checkpoints/000000000008'", "has no 'G.", "begin a new run"],
        |s| { s.run(); s.replace_state(&golden("rosinality_like_r32_io.safetensors")) }),
    case(Checkpoint, "a damaged module", "finetune-resume --resume {}/run", &["run'", "networks/G.pt' is damaged", "sha256", "begin a new one from a snapshot"],
        |s| { s.run(); let module = "run/checkpoints/networks/G.pt"; s.write(module, flipped(s.bytes(module))) }),
    case(Checkpoint, "no module", "finetune-resume --resume {}/run", &["run'", "networks/D.pt'", "No such file", "begin a new one from a snapshot"],
        |s| { s.run(); fs::remove_file(s.path("run/checkpoints/networks/D.pt")).unwrap() }),
    case(Checkpoint, "no options", "finetune-resume --resume {}/run", &["training_options.json", "bring the file back"],
        |s| { s.run(); fs::remove_file(s.path("run/training_options.json")).unwrap() }),

    case(Snapshot, "no such run", "generate --from {}/nowhere --seeds 0 --outdir {}/out", &["nowhere", "check the path"], nothing),
    case(Snapshot, "a folder that is no run", "dump --from {}/pictures --out {}/out", &["pictures'", "but pictures", "they go with --data"], nothing),
    case(Snapshot, "a network alone", "export --from {}/g.pt --out {}/out", &["g.pt", "a generator alone", "--discriminator"], nothing),
    case(Snapshot, "a manifest that is no JSON", "generate --from {}/run --seeds 0 --outdir {}/out", &["network-snapshot-000000.json", "pass network-snapshot"],
        |s| { s.run(); s.write(MANIFEST, "{") }),
    case(Snapshot, "a manifest that is no text", "inspect {}/run", &["network-snapshot-000000.json", "no text in UTF-8", "pass network-snapshot"],
        |s| { s.run(); s.write(MANIFEST, [0xff, 0xfe, 0]) }),
    case(Snapshot, "a manifest without a network", "export --from {}/run --out {}/out", &["network-snapshot-000000.json", "no network 'D'", "pass a snapshot that is whole"],
        |s| { s.run(); s.change(MANIFEST, |manifest| drop(manifest["files"].as_object_mut().unwrap().remove("D"))) }),
    case(Snapshot, "a manifest that leads elsewhere", "dump --from {}/run --out {}/out", &["network-snapshot-000000.json", "'../g.pt'", "pass another snapshot"],
        |s| { s.run(); s.change(MANIFEST, |manifest| manifest["files"]["G_ema"]["file"] = json!("../g.pt")) }),
    case(Snapshot, "a network with a flipped bit", "inspect {}/run", &["network-snapshot-000000.D.pt", "sha256", "take another snapshot"],
        |s| { s.run(); let network = "run/network-snapshot-000000.D.pt"; s.write(network, flipped(s.bytes(network))) }),
    case(Snapshot, "no network", "generate --from {}/run --seeds 0 --outdir {}/out", &["network-snapshot-000000.G_ema.pt", "bring it back"],
        |s| { s.run(); fs::remove_file(s.path("run/network-snapshot-000000.G_ema.pt")).unwrap() }),

    case(Other, "safetensors that are cut", "inspect {}/cut.safetensors", &["cut.safetensors", "the file is damaged or cut short", "copy or download it again"],
        |s| s.write("cut.safetensors", &golden("rosinality_like_r32_io.safetensors")[..1000])),
    case(Other, "safetensors with a header beyond memory", "inspect {}/a.safetensors", &["a.safetensors", "damaged"],
        |s| s.write("a.safetensors", [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, b'{', b'}'])),
    case(Other, "no file to inspect", "inspect {}/no.pt", &["no.pt", "no such file", "check the path"], nothing),
    case(Other, "seeds that are none", "generate --generator {}/g.pt --seeds 1,x --outdir {}/out", &["'x'", "write 0-63"], nothing),
    case(Other, "no place for pictures", "generate --generator {}/g.pt --seeds 0 --outdir {}/g.pt/out", &["g.pt/out", "pass another place"], nothing),
    case(Other, "a dump into a file", "dump --generator {}/g.pt --out {}/d.pt --count 1", &["d.pt", "pass a folder"], nothing),
    case(Other, "a dump into pictures", "dump --generator {}/g.pt --out {}/dump --count 1", &["dump.json", "pass another place"],
        |s| s.write("dump/000000.png", s.bytes("pictures/picture000.png"))),
    case(Other, "a damaged record of a dump", "dump --generator {}/g.pt --out {}/dump --count 1", &["dump.json", "is damaged", "pass another place"],
        |s| { s.write("dump/000000.png", s.bytes("pictures/picture000.png")); s.write("dump/dump.json", "{") }),
    case(Other, "an export over files", "export --generator {}/g.pt --discriminator {}/d.pt --out {}/out", &["generator.pt", "--force"],
        |s| s.write("out/generator.pt", "")),
    case(Other, "runs in a file", "finetune --outdir {}/g.pt", &["g.pt", "pass another --outdir"], nothing),
    case(Other, "a batch of 0", "bench --generator {}/g.pt --discriminator {}/d.pt --batch 0", &["--batch must be at least 1"], nothing),
    case(Other, "a batch beyond memory", "bench --generator {}/g.pt --discriminator {}/d.pt --batch 1000000000000", &["--batch 1000000000000 is more than 65536"], nothing),
    case(Other, "a name of a run beyond the file system", "finetune --desc {long}", &["pass another --outdir or a shorter --desc"], nothing),
    case(Other, "a negative number of pictures", "finetune --batch -1", &["'--batch <N>'", "pass a whole number, 0 or more"], nothing),
    case(Other, "more frozen layers than there are", "finetune --freeze-d 99", &["--freeze-d 99", "d.pt", "pass at most"], nothing),
    case(Other, "more frozen blocks than there are", "finetune --freeze-g 9", &["g.pt", "synthesis.b32.", "lower --freeze-g"], nothing),
    case(Other, "a mistyped flag", "finetune --rootk 3", &["'--rootk'", "'--root-k'", "--help"], nothing),
];

const MANIFEST: &str = "run/network-snapshot-000000.json";

/// A folder with a pair (`g.pt`, `d.pt`), pictures, broken networks, and room for what is bad.
struct Stage {
    folder: tempfile::TempDir,
    whole_run: Option<PathBuf>,
}

impl Stage {
    fn new(group: Group) -> Self {
        let mut stage = Self { folder: tempfile::tempdir().unwrap(), whole_run: None };
        let (generator, discriminator) = common::pair16();
        fs::copy(generator, stage.path("g.pt")).unwrap();
        fs::copy(discriminator, stage.path("d.pt")).unwrap();
        common::picture_folder(&stage.path("pictures"), 8, 16);
        if matches!(group, Network | Description) {
            let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_inputs/networks.py");
            let paths = [script, stage.path(""), stage.path("g.pt"), stage.path("d.pt")];
            common::python(&paths.each_ref().map(|path| common::text(path)));
        }
        if matches!(group, Checkpoint | Snapshot) {
            stage.arguments("finetune").assert().success();
            let runs = fs::read_dir(stage.path("runs")).unwrap();
            stage.whole_run = runs.flatten().map(|entry| entry.path()).next();
        }
        stage
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn folder(&self, name: &str) {
        fs::create_dir_all(self.path(name)).unwrap();
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Two pictures and this `dataset.json` in the folder `bad`.
    fn labels(&self, text: &str) {
        common::picture_folder(&self.path("bad"), 2, 16);
        self.write("bad/dataset.json", text);
    }

    /// The pictures as a zip.
    fn zip(&self) -> Vec<u8> {
        let path = self.path("whole.zip");
        zip_of(&path, &[("a.png", &self.bytes("pictures/picture000.png"))]);
        fs::read(path).unwrap()
    }

    fn jpeg(&self) -> Vec<u8> {
        let path = self.path("picture.jpg");
        image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, 9])).save(&path).unwrap();
        fs::read(path).unwrap()
    }

    /// A fresh copy of a whole run in the folder `run`.
    fn run(&self) {
        copy_folder(self.whole_run.as_ref().unwrap(), &self.path("run"));
        // There is no earlier checkpoint to go back to.
        fs::remove_dir_all(self.path("run/checkpoints/000000000000")).unwrap();
    }

    /// A file of the last checkpoint.
    fn checkpoint(&self, name: &str) -> String {
        format!("run/checkpoints/000000000008/{name}")
    }

    /// Changes a JSON file.
    fn change(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&self.bytes(name)).unwrap();
        change(&mut value);
        if name.ends_with("checkpoint.json") {
            // Damage is noticed by the checksum already; here it is right.
            rootgan::run::checkpoint::seal(&mut value);
        }
        self.write(name, value.to_string());
    }

    /// Another state in the last checkpoint, with its right checksum.
    fn replace_state(&self, bytes: &[u8]) {
        let name = self.checkpoint("state.safetensors");
        self.write(&name, bytes);
        let record = rootgan::files::checksum::FileRecord::from_file(&self.path(&name)).unwrap();
        self.change(&self.checkpoint("checkpoint.json"), |manifest| manifest["state"] = json!(record));
    }

    /// What is bad for one case is gone before the next.
    fn clear(&self) {
        for name in ["bad", "run", "empty", "out", "dump", "clean"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
    }

    fn arguments(&self, command: &str) -> assert_cmd::Command {
        let mut words = command.split(' ');
        let place = common::text(self.folder.path());
        let finetune = |pair: (PathBuf, PathBuf)| {
            Finetune::new(&pair, &self.path("pictures"), &self.path("runs")).with(["--kimg", "0.008"]).command()
        };
        let mut program = match words.next().unwrap() {
            "finetune" => finetune((self.path("g.pt"), self.path("d.pt"))),
            "finetune-labelled" => finetune(common::pair16_labelled()),
            "finetune-resume" => {
                let mut program = common::rootgan();
                program.args(["finetune", "--device", "cpu"]);
                program
            }
            other => {
                let mut program = common::rootgan();
                program.arg(other);
                program
            }
        };
        program.args(words.map(|word| word.replace("{}", place).replace("{long}", &"x".repeat(5000))));
        program
    }

    /// What is wrong with how the program refuses a case.
    fn judge(&self, case: &Case) -> Vec<String> {
        self.clear();
        (case.make)(self);
        let output = self.arguments(case.command).timeout(std::time::Duration::from_secs(120)).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let mut faults = Vec::new();
        let mut check = |holds: bool, fault: &str| faults.extend((!holds).then(|| fault.to_owned()));
        check(output.status.code() == Some(1), &format!("{}", output.status));
        let errors: Vec<&str> = stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        let last = stderr.lines().last().unwrap_or_default();
        check(errors.len() == 1 && errors[0] == last, "the last line is not the only error");
        check(last.chars().count() < MOST_CHARS, "the message is too long");
        for word in case.words {
            check(last.contains(word), &format!("'{word}' is missing"));
        }
        for never in
            ["panicked", "Exception raised", "frame #", "RUST_BACKTRACE", "Traceback", "should not", "report it"]
        {
            check(!stderr.contains(never), &format!("'{never}' is there"));
        }
        if !faults.is_empty() {
            faults.push(stderr);
        }
        faults
    }
}

/// Runs the cases of one group; all that fail are shown.
fn judge_all(group: Group) {
    let stage = Stage::new(group);
    let mut failures = Vec::new();
    for case in CASES.iter().filter(|case| case.group == group) {
        let faults = stage.judge(case);
        if !faults.is_empty() {
            failures.push(format!("{group:?}, {}: {}", case.name, faults.join("; ")));
        }
    }
    assert!(failures.is_empty(), "{} cases fail:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_table_has_a_hundred_cases_of_different_names() {
    let names: BTreeSet<String> = CASES.iter().map(|case| format!("{:?} {}", case.group, case.name)).collect();
    assert!(CASES.len() >= 100 && names.len() == CASES.len(), "{} cases, {} names", CASES.len(), names.len());
}

#[test]
fn bad_networks_are_refused() {
    judge_all(Network);
}

#[test]
fn networks_that_describe_themselves_wrongly_are_refused() {
    judge_all(Description);
}

#[test]
fn bad_pictures_are_refused() {
    judge_all(Pictures);
}

#[test]
fn bad_labels_are_refused() {
    judge_all(Labels);
}

#[test]
fn bad_configurations_are_refused() {
    judge_all(Config);
}

#[test]
fn bad_checkpoints_are_refused() {
    judge_all(Checkpoint);
}

#[test]
fn bad_snapshots_are_refused() {
    judge_all(Snapshot);
}

#[test]
fn other_bad_inputs_are_refused() {
    judge_all(Other);
}

#[test]
fn every_bad_picture_of_a_run_is_named_in_its_folder() {
    let stage = Stage::new(Other);
    common::picture_folder(&stage.path("pictures"), 120, 16);
    for index in 0..12 {
        stage.write(&format!("pictures/bad{index:02}.png"), "");
    }
    stage.arguments("finetune").assert().success();
    let run = fs::read_dir(stage.path("runs")).unwrap().next().unwrap().unwrap().path();
    let list = fs::read_to_string(run.join("bad_pictures.txt")).unwrap();
    assert_eq!(list.lines().count(), 12, "{list}");
    assert!(list.lines().all(|line| line.ends_with("the file is empty")) && list.contains("bad11.png"), "{list}");
    let log = fs::read_to_string(run.join("log.txt")).unwrap();
    assert!(log.contains("12 unreadable") && log.contains("bad_pictures.txt"), "{log}");
}

#[test]
fn a_configuration_may_begin_with_a_byte_order_mark() {
    let stage = Stage::new(Other);
    stage.write("c.json", "\u{feff}{\"root_k\": 3}");
    stage.arguments("finetune --config {}/c.json --dry-run").assert().success();
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)).unwrap()
}

/// One bit in the middle is another one.
fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    bytes
}

fn deep(key: &str, levels: usize) -> String {
    format!("{{\"{key}\": {}{}}}", "[".repeat(levels), "]".repeat(levels))
}

/// A png that claims to have `side` x `side` pixels and ends there.
fn png_header(side: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(side.to_be_bytes().repeat(2));
    bytes.extend([8, 2, 0, 0, 0]);
    let mut sum = !0u32;
    for &byte in &bytes[12..] {
        sum ^= u32::from(byte);
        (0..8).for_each(|_| sum = (sum >> 1) ^ if sum & 1 == 1 { 0xedb8_8320 } else { 0 });
    }
    bytes.extend((!sum).to_be_bytes());
    bytes
}

fn zip_of(path: &Path, files: &[(&str, &[u8])]) {
    let mut zip = zip::ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in files {
        zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

/// A zip of one file with a byte changed both in its header and in the list at the end, at these places.
fn patched(mut zip: Vec<u8>, in_header: usize, in_list: usize, value: u8) -> Vec<u8> {
    let list = zip.windows(4).rposition(|four| four == b"PK\x01\x02").unwrap();
    for at in [in_header, list + in_list] {
        zip[at] = if value == 0xff { zip[at] ^ value } else { value };
    }
    zip
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        match entry.path().is_dir() {
            true => copy_folder(&entry.path(), &to.join(entry.file_name())),
            false => drop(fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}
