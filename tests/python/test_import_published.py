"""Tests kinds of pickles that NVIDIA's published files are: converted networks of 2019 (no minibatch-stddev group;
labels without mapping layers), and a clamped `skip` discriminator. The golden files hold what NVIDIA's own code
computes from them."""

import json
import pickle
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from rootgan.checkpoints import detect
from rootgan.checkpoints.checkpoint import CheckpointError
from checks.nvidia_files import Pickler, made_up_modules, network, write
from rootgan.import_checkpoint import import_checkpoint
from rootgan.networks.pair import MAX_GROUP, Architecture
from safetensors.torch import load_file
from test_import_nvidia import assert_equal, file_of, kwargs_of, sizes, weights

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
KINDS = ("pkl_published_r32", "pkl_published_labels_r16", "pkl_dskip_clamp_r16")
RELATIVE = 1e-4  # of the largest entry: float32 sums are taken in another order


def pair_of(kind, folder, **options):
    import_checkpoint(GOLDEN / f"{kind}.pkl", folder / kind, **options)
    modules = [torch.jit.load(folder / kind / name) for name in ("generator.pt", "discriminator.pt")]
    return *modules, load_file(GOLDEN / f"{kind}_io.safetensors")


def assert_agrees(found, expected):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= RELATIVE * expected.abs().max()


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_images_and_logits_are_those_of_nvidias_code(kind, tmp_path):
    G, D, numbers = pair_of(kind, tmp_path)
    c = numbers.get("c")
    assert_agrees(G(numbers["z"], c, noise_mode="const"), numbers["img"])
    assert_agrees(G(numbers["z"], c, truncation_psi=0.7, noise_mode="const"), numbers["img_psi0.7"])
    for size in (1, 4):
        batches = zip(numbers["x"].split(size), numbers["x"].split(size) if c is None else c.split(size))
        logits = [D(x, None if c is None else labels) for x, labels in batches]
        assert_agrees(torch.cat(logits), numbers[f"logits_batch{size}"])



@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_group_that_the_file_leaves_open_is_said_and_can_be_chosen(kind, tmp_path, capsys):
    _, D, numbers = pair_of(kind, tmp_path)
    assert json.loads(D.describe())["mbstd_group_size"] == 4
    assert "--mbstd-group" in capsys.readouterr().out
    logits = D(numbers["x"], numbers.get("c"))
    for name, size in (("2", 2), ("all", MAX_GROUP)):
        _, other, _ = pair_of(kind, tmp_path / name, mbstd_group=size)
        assert json.loads(other.describe())["mbstd_group_size"] == size
        assert not torch.allclose(other(numbers["x"], numbers.get("c")), logits)


def test_labels_go_into_the_discriminator_without_mapping_layers(tmp_path):
    _, D, _ = pair_of("pkl_published_labels_r16", tmp_path)
    assert json.loads(D.describe())["d_mapping_layers"] == 0
    assert [name for name in D.state_dict() if name.startswith("mapping.")] == ["mapping.embed.weight", "mapping.embed.bias"]


def saved(tmp_path, content, protocol=4):
    path = tmp_path / f"file{protocol}.pkl"
    write(content, path, protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_gives_the_same_tensors(protocol, tmp_path):
    pair = sizes(c_dim=2)
    g, d = weights(pair)
    g_kwargs, d_kwargs = kwargs_of(pair)
    content = {"G": None, "D": network(d, "Discriminator", d_kwargs), "G_ema": network(g, "Generator", g_kwargs),
               "training_set_kwargs": None, "empty": b"", "classes": {"a", "b"}}
    path = tmp_path / "file.pkl"
    with made_up_modules(), open(path, "wb") as file:
        Pickler(file, protocol, "cpu").dump(content)
    assert protocol != 2 or b"__builtin__" in path.read_bytes()
    found = detect.read(path)
    assert_equal(found.g_ema, g)
    assert_equal(found.d, d)


def test_the_width_of_the_embedded_label_may_be_any(tmp_path):
    pair = sizes(c_dim=3, d_cmap_dim=7)
    g, d = weights(pair)
    assert d["b4.out.weight"].shape[0] == 7
    path = file_of(tmp_path / "file.pkl", pair, g, d)
    import_checkpoint(path, tmp_path / "pair")
    D = torch.jit.load(tmp_path / "pair" / "discriminator.pt")
    assert json.loads(D.describe())["d_cmap_dim"] == 7
    again = Architecture.described(json.loads(torch.jit.load(tmp_path / "pair" / "generator.pt").describe()),
                                   json.loads(D.describe()))
    assert again == pair
    assert_equal(D.state_dict(), d)


@pytest.mark.parametrize("beta", [0.995, 0.998])
def test_w_avg_goes_on_as_in_the_file(beta, tmp_path):
    pair = sizes()
    g, d = weights(pair)
    g_kwargs, _ = kwargs_of(pair)
    module = network(g, "Generator", g_kwargs, attributes={"mapping": {"w_avg_beta": beta}})
    path = file_of(tmp_path / "file.pkl", pair, g, d, G_ema=module)
    import_checkpoint(path, tmp_path / "pair")
    G = torch.jit.load(tmp_path / "pair" / "generator.pt")
    before, ws = g["mapping.w_avg"], G.run_mapping(torch.randn(4, pair.z_dim), None, 1.0, None, True)
    torch.testing.assert_close(G.mapping.w_avg, beta * before + (1 - beta) * ws[:, 0].mean(dim=0))
    assert Architecture.described(json.loads(G.describe())).w_avg_beta == beta


def test_a_generator_that_is_the_whole_file_is_imported(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    found = detect.read(saved(tmp_path, network(g, "Generator", kwargs_of(pair)[0])))
    assert_equal(found.g_ema, g)
    assert found.d is None
    found = detect.read(saved(tmp_path, {"G": network(g, "Generator", kwargs_of(pair)[0])}))
    assert_equal(found.g_ema, g)
    assert found.notes == ["the file has no averaged generator (G_ema): the one in training (G) takes its place"]


@pytest.mark.parametrize("wrap", [lambda D: D, lambda D: {"D": D}])
def test_a_discriminator_that_is_the_whole_file_is_refused_as_that(wrap, tmp_path):
    pair = sizes()
    module = network(weights(pair)[1], "Discriminator", kwargs_of(pair)[1])
    with pytest.raises(CheckpointError, match="it holds a discriminator alone"):
        detect.read(saved(tmp_path, wrap(module)))


def test_a_discriminator_of_another_kind_is_left_out_and_its_generator_imported(tmp_path, capsys):
    pair = sizes()
    g, d = weights(pair)
    d["b4.conv.weight"] = torch.randn(d["b4.conv.weight"].shape[0], d["b4.conv.weight"].shape[1] + 1, 3, 3)
    path = file_of(tmp_path / "file.pkl", pair, g, d)
    import_checkpoint(path, tmp_path / "pair")
    said = capsys.readouterr().out
    assert "the discriminator in the file is left out: its discriminator has 1 tensors of another shape (b4.conv.weight" in said
    assert "finetuning needs --discriminator" in said
    assert sorted(file.name for file in (tmp_path / "pair").iterdir()) == ["generator.pt", "import.json"]
    with pytest.raises(CheckpointError, match="no discriminator is imported"):
        import_checkpoint(path, tmp_path / "again", mbstd_group=4)


def test_what_is_wrong_with_the_generator_is_said_before_the_discriminator(tmp_path):
    pair = sizes()
    g, d = weights(pair)
    g["synthesis.b8.odd.weight"], d["b4.odd"] = torch.ones(2), torch.ones(2)
    with pytest.raises(CheckpointError, match="its generator has 1 unknown tensors"):
        detect.read(file_of(tmp_path / "file.pkl", pair, g, d))


@pytest.mark.parametrize("protocol", [4, 5])
def test_a_stylegan3_with_its_numpy_arrays_is_refused_by_its_name(protocol, tmp_path):
    g = {"synthesis.input.freqs": torch.ones(4, 2), "synthesis.L0_36_16.weight": torch.ones(4, 4, 3, 3),
         "mapping.fc0.weight": torch.ones(8, 8), "mapping.w_avg": torch.ones(8)}
    module = network(g, "Generator", {"z_dim": 8},
                     attributes={"synthesis.L0_36_16": {"in_size": np.arange(2), "up_filter": np.ones(6, np.float32)}})
    with pytest.raises(CheckpointError, match="its generator is a StyleGAN3 .* another network .*--cfg=stylegan2"):
        detect.read(saved(tmp_path, {"G": None, "D": None, "G_ema": module}, protocol))


def test_a_tensorflow_pickle_is_refused_by_its_name(tmp_path):
    class Network:
        pass

    Network.__module__, Network.__qualname__ = "dnnlib.tflib.network", "Network"
    module = types.ModuleType("dnnlib.tflib.network")
    module.Network = Network
    path = tmp_path / "tf.pkl"
    names = {"dnnlib": types.ModuleType("dnnlib"), "dnnlib.tflib": types.ModuleType("dnnlib.tflib"),
             "dnnlib.tflib.network": module}
    with pytest.MonkeyPatch.context() as patch:
        for name, made in names.items():
            patch.setitem(sys.modules, name, made)
        path.write_bytes(pickle.dumps((Network(), Network(), Network()), 4))
    with pytest.raises(CheckpointError, match="TensorFlow pickle .*stylegan2-ada repository.*legacy.py"):
        detect.read(path)
