"""python/rootgan/checkpoints/ancestry.py: provenance records name their parents and hold every ancestor once, within a bound."""

import json
import subprocess
import sys
from pathlib import Path

import torch
from rootgan.checkpoints.ancestry import MOST_BYTES, flattened, flattened_text, records
from rootgan.networks.pair import Architecture, random_pair, save

ROOT = Path(__file__).resolve().parents[2]


def test_a_chain_grows_by_one_record_a_generation_up_to_the_bound():
    record, sizes = {"source": "random initialisation", "seed": 3}, []
    for generation in range(150):
        record = flattened({"source": "import", "generation": generation, "notes": "x" * 900,
                            "parents": {"G": record, "D": record}})
        sizes.append(len(json.dumps(record)))
    steps = [b - a for a, b in zip(sizes[:20], sizes[1:20])]
    assert max(steps) - min(steps) < 20 and max(sizes) < MOST_BYTES + 8192
    # The nearest ancestors are there, in order; the one after them is only named.
    assert [found["generation"] for found in record["ancestors"].values()] == [*range(148, 148 - len(record["ancestors"]), -1)]
    assert len(record["ancestors"]) > 30 and record["ancestors_left_out"] == 1


def test_nested_records_of_earlier_versions_are_there_once_each():
    nested = {"source": "random initialisation"}
    for generation in range(12):
        nested = {"seen_images": generation, "parents": {"generator": nested, "discriminator": nested}}
    flat = flattened(nested)
    assert len(flat["ancestors"]) == 12 and len(json.dumps(flat)) < 5000 < 100_000 < len(json.dumps(nested))
    assert flattened(flat) == flat
    assert json.loads(flattened_text(json.dumps(nested))) == flat


def test_floats_give_the_same_id_as_in_rust():
    """The id of the same record in src/model/provenance.rs."""
    rates = [0.0025, 1e-4, 1e-5, 2.5e-7, 1e15, 1e16, 1.5e300, 256.0, -0.0, 0.0]
    assert list(flattened({"parent": {"rates": rates}})["ancestors"]) == ["d3d6c3915aaf0601350e6dea62306cdcc5ba73652606f15f7ef538071a07d0a8"]


def test_a_record_is_listed_with_all_its_ancestors_the_nearest_first():
    record = {"source": "run", "parents": {"G": {"source": "import", "parents": {"G": {"source": "older"}}}, "D": "by hand"}}
    assert [found["source"] for found in records(json.dumps(record))] == ["run", "import", "older"]
    assert [found["source"] for found in records(flattened_text(json.dumps(record)))] == ["run", "import", "older"]
    assert records("no JSON") == records("[1]") == records("[" * 100_000) == []


def test_what_is_no_record_stays_while_it_is_short():
    for record in ({"parent": "by hand"}, {"parents": {"D": {}}}, {"parents": []}, [1], None):
        assert flattened(record) == record
    long = flattened({"parent": "x" * 100_000})
    assert long["ancestors_left_out"] == 1 and len(json.dumps(long)) < 200
    assert flattened_text("no JSON") == "no JSON"
    deep = {"end": True}
    for _ in range(300):
        deep = {"parent": deep}
    assert len(flattened(deep)["ancestors"]) == 64


def test_an_id_is_the_same_as_in_the_program():
    """The id is that of `printf '%s' '{"a":[1,{"b":null,"c":"x"}],"seed":3}' | sha256sum`, as in the test in Rust."""
    record = flattened({"parent": {"seed": 3, "a": [1, {"c": "x", "b": None}]}})
    assert record["parent"] == {"record": "91f5c416f82bf9d97254f6f506de6506384fdc7ce370069df8930e971483e0ee"}


def test_export_and_import_in_turn_keep_the_record_small(tmp_path):
    module = random_pair(Architecture(16, z_dim=8, w_dim=8, mapping_layers=1, channel_base=64, channel_max=4), 0)
    folder = tmp_path / "0"
    folder.mkdir()
    for network, name in zip(module, ("generator.pt", "discriminator.pt")):
        save(network, folder / name)

    def command(name, *arguments):
        done = subprocess.run([sys.executable, ROOT / "python" / "rootgan", name, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    sizes = []
    for step in range(1, 4):
        weights = tmp_path / f"{step}.safetensors"
        command("export", "--generator", folder / "generator.pt", "--discriminator",
                folder / "discriminator.pt", "--format", "safetensors", "--out", weights)
        folder = tmp_path / str(step)
        command("import", weights, "--outdir", folder)
        sizes.append(len(torch.jit.load(folder / "generator.pt").get_provenance()))
    record = json.loads(torch.jit.load(folder / "discriminator.pt").get_provenance())
    assert len(record["ancestors"]) == 3 and sizes[2] - sizes[1] <= sizes[1] - sizes[0] + 200, sizes
