"""Tests rootgan export --format nvidia: the new file is the source with other numbers, opcode by opcode; Python's own
unpickler finds the exported tensors bit for bit; and what does not belong together is refused."""

import collections
import functools
import hashlib
import io
import json
import pickle
import pickletools
import resource
import types

import pytest
import torch
from checks.nvidia_files import Pickler, network, write
from rootgan.checkpoints import detect
from rootgan.checkpoints.torch_files import LEGACY_START
from rootgan.import_checkpoint import import_checkpoint
from rootgan.whole_files import sha256_of
from test_export_checkpoint import GOLDEN_DIR, run
from test_import_nvidia import SPELLINGS, assert_equal, file_of, halved, kwargs_of, sizes, weights

FLAGS = {"G_ema": "--generator", "G": "--generator-raw", "D": "--discriminator"}
GOLDEN = ["nvidia_like_r32", "pkl_dskip_clamp_r16", "pkl_published_labels_r16", "pkl_published_r32"]
FORMAT = "NVIDIA pickle, stylegan2-ada-pytorch"


@functools.cache
def scripted(kind, changes):
    pair = sizes(**dict(changes))
    return torch.jit.script((pair.discriminator() if kind == "D" else pair.generator()).eval())


def finetuned(tensors, seed=5):
    """Moves every number but those of filters, which are never trained."""
    generator = torch.Generator().manual_seed(seed)
    return {name: value.float() if name.endswith("resample_filter") else
            value.float() + torch.randn(value.shape, generator=generator) for name, value in tensors.items()}


def record_of(source):
    """The provenance of a run that began with an import of `source`."""
    imported = {"source": source.name, "source_sha256": sha256_of(source), "format": FORMAT}
    return {"source": "finetuned by rootgan", "parents": {"generator": imported}}


def files_of(folder, record, changes=(), **tensors):
    """Writes networks as TorchScript files with a provenance; returns the arguments that name them."""
    arguments = []
    for name, values in tensors.items():
        module = scripted("D" if name == "D" else "G", changes)
        module.load_state_dict(values)
        module.set_provenance(json.dumps(record))
        torch.jit.save(module, str(folder / f"{name}.pt"))
        arguments += [FLAGS[name], folder / f"{name}.pt"]
    return arguments


def export(monkeypatch, arguments, source, out, *more):
    run(monkeypatch, *arguments, "--format", "nvidia", "--source", source, "--out", out, *more)


@pytest.fixture
def shared_storages(monkeypatch):
    """Lets the writer keep storages that several tensors share; Python's pickle alone writes one for each tensor."""
    inherited, known = Pickler.reducer_override, {}

    def override(self, value):
        if type(value) is not torch.Tensor:
            return inherited(self, value)
        storage = known.setdefault(value.untyped_storage().data_ptr(), value._typed_storage())
        return torch._utils._rebuild_tensor_v2, (storage, value.storage_offset(), tuple(value.shape), value.stride(), False,
                                                 collections.OrderedDict())

    monkeypatch.setattr(Pickler, "reducer_override", override)


class Loader(pickle.Unpickler):
    """Loads a pickle as NVIDIA's code does, with Python's pickle and torch, but makes plain objects of networks."""

    def find_class(self, module, name):
        made_up = {"torch_utils.persistence": lambda meta: types.SimpleNamespace(**meta["state"]), "dnnlib.util": dict,
                   "torch.storage": lambda raw: torch.load(io.BytesIO(raw), map_location="cpu", weights_only=False)}
        return made_up.get(module) or super().find_class(module, name)


def loaded(path):
    """The tensors by network as Python's own unpickler gives them."""
    def tensors(module, prefix=""):
        found = {prefix + name: value.detach() for part in (module._parameters, module._buffers)
                 for name, value in part.items()}
        for name, child in module._modules.items():
            found.update(tensors(child, f"{prefix}{name}."))
        return found

    with open(path, "rb") as file:
        tree = Loader(file).load()
    if not isinstance(tree, dict):
        return {"G_ema": tensors(tree)}
    return {name: tensors(value) for name, value in tree.items() if isinstance(value, types.SimpleNamespace)}


def header_of(stream):
    """The bytes of a torch stream before the numbers of its storage, whose count is the last of them."""
    file = io.BytesIO(stream)
    for _ in range(5):
        for _ in pickletools.genops(file):
            pass
    return stream[:file.tell() + 8]


def opcodes(path):
    """All instructions with their arguments and positions, without the numbers in storages."""
    return [(code.name, header_of(argument) if isinstance(argument, (bytes, bytearray))
             and argument.startswith(LEGACY_START) else argument, at)
            for code, argument, at in pickletools.genops(path.read_bytes())]


def assert_copy_with_other_numbers(source, out, **expected):
    """`expected` are tensors by network; every other tensor has to be that of the source."""
    before, after = loaded(source), loaded(out)
    assert after.keys() == before.keys() and expected.keys() <= after.keys()
    for name, tensors in before.items():
        assert after[name].keys() == tensors.keys()
        for key, value in tensors.items():
            found, wanted = after[name][key], expected.get(name, tensors)[key].to(value.dtype)
            assert found.dtype == value.dtype and found.stride() == value.stride()
            assert torch.equal(found, wanted), f"{name}.{key}"
    assert out.stat().st_size == source.stat().st_size and out.read_bytes() != source.read_bytes()
    assert opcodes(out) == opcodes(source)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_new_file_is_the_source_with_other_numbers(spelling, monkeypatch, tmp_path, capsys):
    options, change = SPELLINGS[spelling]
    source, out = tmp_path / "source.pkl", tmp_path / "new" / "out.pkl"
    pair = sizes()
    (g_ema, d), (g, _) = (tuple(map(change, weights(pair, seed))) for seed in (0, 1))
    file_of(source, pair, g_ema, d, g, options=options)
    new = {"G_ema": finetuned(g_ema), "G": finetuned(g, 6), "D": finetuned(d, 7)}
    export(monkeypatch, files_of(tmp_path, record_of(source), **new), source, out)
    assert_copy_with_other_numbers(source, out, **new)
    found = detect.read(out)
    for name, tensors in (("G_ema", found.g_ema), ("G", found.g), ("D", found.d)):
        kind = next(iter(loaded(source)[name].values())).dtype
        assert_equal(tensors, {key: value.to(kind) for key, value in new[name].items()})
    assert found.architecture == pair and found.notes == []
    printed = capsys.readouterr().out
    assert ("their numbers are rounded to it" in printed) == ("half" in spelling or spelling == "bfloat16")
    for said in ("training_set_kwargs stay as they were", "its licence stays NVIDIA's"):
        assert said in printed
    assert "no generator in training is given" not in printed and "no discriminator is given" not in printed


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_weights_that_did_not_change_give_the_same_bytes(spelling, monkeypatch, tmp_path):
    options, change = SPELLINGS[spelling]
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = map(change, weights(pair))
    g_ema["mapping.fc0.bias"] *= -0.0
    file_of(source, pair, g_ema, d, options=options)
    new = [{name: value.float() for name, value in tensors.items()} for tensors in (g_ema, d)]
    export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new[0], D=new[1]), source, tmp_path / "out.pkl")
    assert (tmp_path / "out.pkl").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("name", GOLDEN)
def test_an_imported_golden_file_comes_back_byte_for_byte(name, monkeypatch, tmp_path, capsys):
    source = GOLDEN_DIR / f"{name}.pkl"
    import_checkpoint(source, tmp_path / "pair")
    arguments = ["--generator", tmp_path / "pair" / "generator.pt", "--discriminator", tmp_path / "pair" / "discriminator.pt"]
    export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    assert (tmp_path / "out.pkl").read_bytes() == source.read_bytes()
    assert "G in it is the averaged generator too" in capsys.readouterr().out


def test_a_golden_file_takes_other_weights(monkeypatch, tmp_path):
    source = GOLDEN_DIR / "pkl_published_labels_r16.pkl"
    import_checkpoint(source, tmp_path / "pair")
    new, arguments = {}, []
    for name, file in (("G_ema", "generator.pt"), ("D", "discriminator.pt")):
        module = torch.jit.load(tmp_path / "pair" / file)
        new[name] = finetuned(module.state_dict())
        module.load_state_dict(new[name])
        torch.jit.save(module, str(tmp_path / file))
        arguments += [FLAGS[name], tmp_path / file]
    export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    found = detect.read(tmp_path / "out.pkl")
    assert_equal(found.g_ema, new["G_ema"])
    assert_equal(found.d, new["D"])
    assert found.g is None and opcodes(tmp_path / "out.pkl") == opcodes(source)


def test_what_is_not_given_is_said(monkeypatch, tmp_path, capsys):
    source, pair = tmp_path / "source.pkl", sizes()
    (g_ema, d), (g, _) = weights(pair), weights(pair, 1)
    pipe = network({"p": torch.tensor(0.25)}, "AugmentPipe", {}, as_buffer=lambda _: True)
    file_of(source, pair, g_ema, d, g, augment_pipe=pipe)
    new = finetuned(g_ema)
    export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", G_ema=new, G=new)
    printed = capsys.readouterr().out
    for said in ("G in it is the averaged generator too: no generator in training is given; --from a run",
                 f"D stays as it was in '{source}': no discriminator is given",
                 "training_set_kwargs and the augmentation's p (augment_pipe) stay as they were"):
        assert said in printed


@pytest.mark.parametrize("layout", ["bare", "G_ema alone", "G alone"])
def test_a_generator_alone_takes_the_averaged_one(layout, monkeypatch, tmp_path, capsys):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    module = network(g_ema, "Generator", kwargs_of(pair)[0])
    write(module if layout == "bare" else {layout.removesuffix(" alone"): module, "D": None}, source)
    new = finetuned(g_ema)
    arguments = files_of(tmp_path, record_of(source), G_ema=new, G=finetuned(g_ema, 8), D=d)
    export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", **{"G" if layout == "G alone" else "G_ema": new})
    printed = capsys.readouterr().out
    assert "holds one generator, which is the averaged one now" in printed and "the discriminator is not in it" in printed


def test_frozen_layers_which_are_buffers_take_numbers_too(monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    frozen = network(d, "Discriminator", kwargs_of(pair)[1], as_buffer=lambda name: name.startswith("b16."))
    file_of(source, pair, g_ema, None, D=frozen)
    new = {"G_ema": finetuned(g_ema), "D": finetuned(d)}
    export(monkeypatch, files_of(tmp_path, record_of(source), **new), source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", **new, G=new["G_ema"])


def test_tensors_that_are_views_of_one_storage_are_told_apart(shared_storages, monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    room = torch.randn(2, 3, 8)  # two biases in one storage, with room between them
    room[0, 1], room[1, 1] = g_ema["mapping.fc0.bias"], g_ema["mapping.fc1.bias"]
    g_ema["mapping.fc0.bias"], g_ema["mapping.fc1.bias"] = room[0, 1], room[1, 1]
    file_of(source, pair, g_ema, d)
    assert_equal(detect.read(source).g_ema, g_ema)
    new = finetuned(g_ema)
    export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", G_ema=new, G=new)


def test_one_storage_for_two_networks_cannot_hold_two_sets_of_numbers(shared_storages, monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)  # its G and G_ema share their tensors
    arguments = files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema), G=finetuned(g_ema, 9))
    with pytest.raises(SystemExit, match=r"source.pkl': '.*' of its G(_ema)? and '.*' of its G(_ema)? share one storage, "
                       "and would have different numbers; if these are G and G_ema, export the averaged generator alone"):
        export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    new = finetuned(g_ema)
    export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", G_ema=new, G=new)


def test_a_network_that_stays_is_not_changed_through_a_shared_storage(shared_storages, monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    room = torch.cat([torch.zeros(1), d["b4.out.bias"]])
    d["b4.out.bias"], g_ema["synthesis.b4.conv1.noise_strength"] = room[1:], room[1]
    file_of(source, pair, g_ema, d)
    with pytest.raises(SystemExit, match="'b4.out.bias' of its D and .* share one storage|noise_strength' of its .* share"):
        export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema)), source, tmp_path / "out.pkl")
    assert not (tmp_path / "out.pkl").exists()


def test_layers_without_noise_stay_without_it(monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    strength, image = "synthesis.b8.conv0.noise_strength", "synthesis.b8.conv0.noise_const"
    file_of(source, pair, {name: value for name, value in g_ema.items() if name not in (strength, image)}, d)
    new = {**finetuned(g_ema), strength: torch.zeros([])}
    export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "out.pkl")
    assert torch.equal(loaded(tmp_path / "out.pkl")["G_ema"]["mapping.w_avg"], new["mapping.w_avg"])
    new[strength] = torch.ones([])
    with pytest.raises(SystemExit, match=f"it has no '{strength}', which has been trained in .*--format state-dict"):
        export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "new.pkl")


def test_numbers_that_half_precision_cannot_hold_are_refused(monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = map(halved, weights(pair))
    file_of(source, pair, g_ema, d)
    new = finetuned(g_ema)
    new["mapping.fc0.bias"][2] = -7e4
    with pytest.raises(SystemExit, match="'mapping.fc0.bias' is float16 in it, which cannot hold 70000; use --format"):
        export(monkeypatch, files_of(tmp_path, record_of(source), G_ema=new), source, tmp_path / "out.pkl")


@pytest.mark.parametrize("changes, theirs, message", [
    ({"img_channels": 1}, {}, "img_channels is 3 in it and 1 in"),
    ({"z_dim": 13}, {}, "z_dim is 12 in it and 13 in"),
    ({"mapping_rate": 0.1}, {}, "mapping_rate is 0.01 in it and 0.1 in"),
    ({"conv_clamp": 8.0}, {}, "conv_clamp is 4.0 in it and 8.0 in"),
    ({"d_conv_clamp": 0.0}, {}, "conv_clamp of D is 4.0 in it and None in"),
    ({"channel_max": 9}, {}, r"'mapping.*|'synthesis.*' of its G_ema is \[10.*\], that of '.*G_ema.pt' \[9"),
    ({"g_architecture": "resnet"}, {}, "g_architecture is 'skip' in it and 'resnet' in"),
    ({"c_dim": 2}, {}, "c_dim is 0 in it and 2 in"),
], ids=str)
def test_another_architecture_is_refused_by_name(changes, theirs, message, monkeypatch, tmp_path):
    source, (g, d) = tmp_path / "source.pkl", weights(sizes(**theirs))
    file_of(source, sizes(**theirs), g, d)
    tensors = weights(sizes(**changes))
    arguments = files_of(tmp_path, record_of(source), tuple(changes.items()), G_ema=tensors[0], D=tensors[1])
    with pytest.raises(SystemExit, match=f"cannot export with --source '.*source.pkl': ({message}).*; an NVIDIA pickle keeps "
                       "the architecture of its source; use --format state-dict") as caught:
        export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    assert "\n" not in str(caught.value) and not (tmp_path / "out.pkl").exists()


def test_a_group_that_import_chose_does_not_matter(monkeypatch, tmp_path, capsys):
    source, pair = tmp_path / "source.pkl", sizes(mbstd_group_size=8)
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)
    new = {"G_ema": finetuned(g_ema), "D": finetuned(d)}
    export(monkeypatch, files_of(tmp_path, record_of(source), **new), source, tmp_path / "out.pkl")
    assert "mbstd_group_size is 2 in" in capsys.readouterr().out
    assert detect.read(tmp_path / "out.pkl").architecture.mbstd_group_size == 8


def test_a_discriminator_that_was_not_imported_stays(monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    other = network({**d, "b8.extra.weight": torch.ones(2)}, "Discriminator", kwargs_of(pair)[1])
    file_of(source, pair, g_ema, None, D=other)
    arguments = files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema), D=d)
    with pytest.raises(SystemExit, match="the discriminator in the file is left out: .*; pass --generator FILE without --disc"):
        export(monkeypatch, arguments, source, tmp_path / "out.pkl")
    export(monkeypatch, arguments[:2], source, tmp_path / "out.pkl")
    assert_copy_with_other_numbers(source, tmp_path / "out.pkl", G_ema=finetuned(g_ema), G=finetuned(g_ema))


def test_the_source_has_to_be_the_one_that_the_weights_come_from(monkeypatch, tmp_path):
    source, other, pair = tmp_path / "source.pkl", tmp_path / "other.pkl", sizes()
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)
    file_of(other, pair, *weights(pair, 3))
    arguments, out = files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema)), tmp_path / "out.pkl"
    with pytest.raises(SystemExit, match=f"its sha256 is {sha256_of(other)}, but '.*G_ema.pt' comes from 'source.pkl' "
                       f"\\(sha256 {sha256_of(source)}\\); pass that file, or --any-source"):
        export(monkeypatch, arguments, other, out)
    with pytest.raises(SystemExit, match=f"no --source is given; pass the pickle .* imported from, 'source.pkl' \\(sha256 "
                       f"{sha256_of(source)}\\)$"):
        run(monkeypatch, *arguments, "--format", "nvidia", "--out", out)
    export(monkeypatch, arguments, other, out, "--any-source")
    assert_copy_with_other_numbers(other, out, G_ema=finetuned(g_ema), G=finetuned(g_ema))


@pytest.mark.parametrize("record", [{}, {"source": "random initialisation"},
                                    {"source": "r.pt", "format": "rosinality", "source_sha256": "0" * 64}])
def test_weights_from_no_nvidia_pickle_need_any_source(record, monkeypatch, tmp_path):
    source, pair, out = tmp_path / "source.pkl", sizes(), tmp_path / "out.pkl"
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)
    arguments = files_of(tmp_path, record, G_ema=finetuned(g_ema))
    with pytest.raises(SystemExit, match="come from no NVIDIA pickle, .*docs/checkpoints.md.*--source FILE --any-source"):
        run(monkeypatch, *arguments, "--format", "nvidia", "--out", out)
    with pytest.raises(SystemExit, match="does not say that it comes from an NVIDIA pickle; pass --any-source if this one"):
        export(monkeypatch, arguments, source, out)
    export(monkeypatch, arguments, source, out, "--any-source")
    assert_copy_with_other_numbers(source, out, G_ema=finetuned(g_ema), G=finetuned(g_ema))


def stylegan3(folder):
    module = network({"synthesis.input.freqs": torch.ones(4, 2), "mapping.w_avg": torch.ones(4)}, "Generator", {})
    write({"G_ema": module}, folder / "source.pkl")


def cut(folder):
    file_of(folder / "source.pkl", sizes(), *weights(sizes()))
    (folder / "source.pkl").write_bytes((folder / "source.pkl").read_bytes()[:-1000])


@pytest.mark.parametrize("make, message", [
    (lambda folder: None, "there is no such file; pass the NVIDIA .pkl"),
    (lambda folder: (folder / "source.pkl").mkdir(), "it is a folder; pass the NVIDIA .pkl"),
    (lambda folder: (folder / "source.pkl").write_text("<html>"), "it is no NVIDIA pickle; pass the .pkl"),
    (lambda folder: torch.save({"g_ema": {}}, folder / "source.pkl"), "it is no NVIDIA pickle"),
    (lambda folder: torch.save({"g_ema": {}}, folder / "source.pkl", _use_new_zipfile_serialization=False),
     "it is no NVIDIA pickle"),
    (lambda folder: (folder / "source.pkl").write_bytes(pickle.dumps({"G_ema": print})), "it refers to 'builtins.print'"),
    (lambda folder: (folder / "source.pkl").write_bytes(pickle.dumps([1])), "it is a pickle of a list"),
    (lambda folder: file_of(folder / "source.pkl", sizes(), *weights(sizes()), options={"protocol": 2}),
     "it is a pickle of protocol 2, in which numbers are text; save it again"),
    (stylegan3, "its generator is a StyleGAN3"),
    (cut, "it claims .*; copy or download it again"),
])
def test_a_source_that_is_no_nvidia_pickle_is_refused(make, message, monkeypatch, tmp_path):
    make(tmp_path)
    arguments = files_of(tmp_path, {}, G_ema=finetuned(weights(sizes())[0]))
    with pytest.raises(SystemExit, match=f"^error: cannot export with --source '.*source.pkl': {message}") as caught:
        export(monkeypatch, arguments, tmp_path / "source.pkl", tmp_path / "out.pkl", "--any-source")
    assert "\n" not in str(caught.value) and not (tmp_path / "out.pkl").exists()


def test_the_source_is_never_replaced(monkeypatch, tmp_path):
    source, pair = tmp_path / "source.pkl", sizes()
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)
    before = hashlib.sha256(source.read_bytes()).digest()
    arguments = files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema))
    with pytest.raises(SystemExit, match="it is one of the files to export; pass another --out"):
        export(monkeypatch, arguments, source, source, "--force")
    assert hashlib.sha256(source.read_bytes()).digest() == before


@pytest.mark.parametrize("option", [["--source", "x.pkl"], ["--any-source"]])
def test_options_of_this_format_belong_to_no_other(option, monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=f"cannot export with {option[0]} as onnx: the option belongs to --format nvidia"):
        run(monkeypatch, "--generator", "G.pt", "--format", "onnx", *option, "--out", tmp_path / "out")
    with pytest.raises(SystemExit, match="with --any-source: no --source is given; pass the NVIDIA .pkl"):
        run(monkeypatch, "--generator", "G.pt", "--format", "nvidia", "--any-source", "--out", tmp_path / "out")


def test_a_full_disk_leaves_nothing_behind(monkeypatch, tmp_path):
    source, pair, folder = tmp_path / "source.pkl", sizes(), tmp_path / "new"
    g_ema, d = weights(pair)
    file_of(source, pair, g_ema, d)
    arguments = files_of(tmp_path, record_of(source), G_ema=finetuned(g_ema))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(SystemExit, match="cannot export to '.*out.pkl': .*; check the rights and the free space there"):
            export(monkeypatch, arguments, source, folder / "out.pkl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(folder.iterdir()) == []
