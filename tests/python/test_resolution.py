"""Tests another resolution at import: which tensors stay, which are new, and what a network starts as."""

import pytest
import torch
from rootgan.checkpoints.architecture import from_tensors
from rootgan.checkpoints.checkpoint import Checkpoint, CheckpointError
from rootgan.checkpoints.resolution import transfer
from rootgan.networks.resample import fir, resample_filter, upsample_image
from rootgan.networks.pair import D_ARCHITECTURES, G_ARCHITECTURES, Architecture, random_pair


def checkpoint(resolution=32, **sizes):
    defaults = {"z_dim": 6, "w_dim": 7, "mapping_layers": 2, "channel_base": 1024, "channel_max": 9}
    architecture = Architecture(resolution, **{**defaults, **sizes})
    (G, D), (other, _) = random_pair(architecture, 1), random_pair(architecture, 2)
    for module in (G, D, other):
        for name, parameter in module.named_parameters():
            if name.endswith((".bias", ".noise_strength")):
                parameter.data.add_(0.3 * torch.randn(parameter.shape))
    return Checkpoint("random", architecture, *({name: value.detach() for name, value in module.state_dict().items()}
                                                for module in (G, other, D)), ["an older note"])


def networks(found):
    G, D = found.architecture.generator().eval(), found.architecture.discriminator().eval()
    G.load_state_dict(found.g_ema)
    D.load_state_dict(found.d)
    return G, D


@pytest.mark.parametrize("architectures", [*zip(G_ARCHITECTURES, D_ARCHITECTURES), ("skip", "skip")], ids=str)
@pytest.mark.parametrize("resolution", [16, 64, 128])
def test_common_tensors_stay_and_every_new_one_is_named(architectures, resolution):
    old = checkpoint(g_architecture=architectures[0], d_architecture=architectures[1])
    new = transfer(old, resolution)
    G, D = networks(new)
    with torch.no_grad():
        images = G(torch.randn(2, 6), noise_mode="const")
        assert images.shape[2] == resolution and images.isfinite().all() and D(images).isfinite().all()
    notes = " ".join(new.notes)
    assert new.notes[0] == "an older note" and f"from 32 to {resolution}" in notes
    assert old.architecture.img_resolution == 32
    for before, after in ((old.g_ema, new.g_ema), (old.g, new.g), (old.d, new.d)):
        for name, value in after.items():
            if name in before:
                assert torch.equal(value, before[name]), name
            else:
                block, layer = name.removeprefix("synthesis.").split(".")[:2]
                assert f" {block}," in notes or f" {block}:" in notes or f"{block}.{layer}" in notes, name
    fresh = [name for name in new.g if name not in old.g]
    assert all(torch.equal(new.g[name], new.g_ema[name]) for name in fresh), "both generators get the same new blocks"


@pytest.mark.parametrize("resolution", [64, 128])
def test_a_larger_skip_generator_starts_with_the_old_pictures_upsampled(resolution):
    old = checkpoint()
    z = torch.randn(2, 6)
    with torch.no_grad():
        images = networks(old)[0](z, noise_mode="const")
        expected = images
        while expected.shape[2] < resolution:
            expected = upsample_image(expected, resample_filter())
        found = networks(transfer(old, resolution))[0](z, noise_mode="const")
        torch.testing.assert_close(found, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("resolution", [64, 128])
def test_a_larger_skip_discriminator_starts_with_the_logits_of_the_downsampled_image(resolution):
    old = checkpoint(d_architecture="skip")
    x = torch.randn(2, 3, resolution, resolution)
    with torch.no_grad():
        found = networks(transfer(old, resolution))[1](x)
        while x.shape[2] > 32:
            x = fir(x, resample_filter(), 1, 2, 1.0)
        torch.testing.assert_close(found, networks(old)[1](x), rtol=1e-5, atol=1e-5)


def test_the_widths_of_new_blocks_are_said():
    notes = transfer(checkpoint(d_channel_base=512, d_channel_max=7), 128).notes
    assert "generator: the new blocks have 9 channels at 64x64, 8 channels at 128x128 (channel_base 1024, channel_max " \
        "9)" in notes
    assert "discriminator: the new blocks have 7 channels at 64x64, 4 channels at 128x128 (channel_base 512, " \
        "channel_max 7)" in notes
    assert not any("channels at" in note for note in transfer(checkpoint(), 16).notes)


def test_a_rule_that_the_old_blocks_show_only_in_part_is_said():
    """The least channel_base that fits blocks of one width halves the width of the first new block, which the source's
    own channel_base need not do."""
    old = checkpoint(channel_base=4096)
    old.architecture = from_tensors(old.g_ema, old.d, "file")
    assert old.architecture.channel_base == 32 * 9
    note = next(note for note in transfer(old, 64).notes if "generator: the new blocks" in note)
    assert note.endswith("have 4 channels at 64x64 (channel_base 288, channel_max 9); the old ones, all of 9, would fit "
                         "a larger channel_base too, with wider new blocks")


def test_a_larger_network_can_be_trained_from_there():
    G, _ = networks(transfer(checkpoint(), 64))
    optimizer = torch.optim.SGD(G.parameters(), lr=1e-2)
    for _ in range(2):  # in the first step a torgb of zero lets no gradient through to its block
        optimizer.zero_grad()
        G(torch.randn(2, 6), noise_mode="const").square().mean().backward()
        optimizer.step()
    assert G.synthesis.b64.conv0.weight.grad.any() and G.synthesis.b64.torgb.weight.any()


def test_a_smaller_skip_generator_makes_the_rgb_sum_up_to_its_last_block():
    old = checkpoint()
    G, ws = networks(old)[0], torch.randn(2, 8, 7)
    small = networks(transfer(old, 16))[0]
    G.synthesis.b32 = torch.nn.Module()
    del G.synthesis.b32
    G.synthesis.num_ws = 6
    with torch.no_grad():
        assert torch.equal(small.synthesis(ws[:, :6], "const"), G.synthesis(ws[:, :6], "const"))


def test_up_and_down_again_gives_the_old_generator_and_the_seed_decides():
    old = checkpoint()
    larger = transfer(old, 128)
    assert all(torch.equal(larger.g_ema[name], value) for name, value in transfer(old, 128).g_ema.items())
    again = transfer(larger, 32)
    assert again.g_ema.keys() == old.g_ema.keys()
    assert all(torch.equal(value, old.g_ema[name]) for name, value in again.g_ema.items())


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    old = torch.get_rng_state()
    transferred = checkpoint()
    torch.set_rng_state(old)
    transfer(transferred, 16)
    assert torch.equal(torch.randn(3), expected)


def test_networks_that_a_checkpoint_lacks_stay_absent_and_its_own_resolution_changes_nothing():
    old = checkpoint()
    assert transfer(old, 32) is old
    old.g = old.d = None
    new = transfer(old, 64)
    assert new.g is None and new.d is None and not any("discriminator" in note for note in new.notes)


@pytest.mark.parametrize("resolution, message", [
    (48, "power of two from 16 to 1024, not 48"), (8, "not 8"), (2048, "not 2048"),
    (1024, "channel_base must be at least the resolution 1024, not 512")])
def test_a_resolution_that_cannot_be_is_refused(resolution, message):
    with pytest.raises(CheckpointError, match=f"cannot change the resolution from 32 to {resolution}: .*{message}"):
        transfer(checkpoint(channel_base=512), resolution)
