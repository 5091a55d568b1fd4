"""Tables say what the committed rows say, and never show the seed that settings were chosen on."""

from hf_ssl.report.tables import benchmark, comparison, results


def cell(name, knn, **readings):
    return {"cell": name, "knn": {"value": knn}, "readings": readings, "evaluation": {"cka/heads": 0.5}}


def test_the_comparison_has_a_column_a_seed_and_hides_the_tuning():
    cells = [cell("moco-seed1", 0.4), cell("moco-rate1-seed100", 0.9), cell("barlow_twins-seed0", 0.1)]
    cells += [cell("amcl_moco-seed0", 0.2, temperature_mean=0.1), cell("amcl_moco-seed1", 0.3, temperature_mean=0.2)]
    head, _, *rows = comparison(cells).splitlines()
    assert head.startswith("| setting | seed 0 | seed 1 | mean |") and "100" not in head
    assert rows == [
        "| `barlow_twins` | 10.0% |  | 10.0% |  |  | 0.50 |",
        "| `amcl_moco` | 20.0% | 30.0% | 25.0% | 0.15 |  | 0.50 |",
        "| `moco` |  | 40.0% | 40.0% |  |  | 0.50 |",
    ]


def test_a_cell_without_a_probe_and_an_absent_peer_have_empty_places():
    row = {"cell": "idle", "steps": 60, "knn_start": None, "knn_end": None, "images_per_second": 9.6}
    text = results([row | {"peak_memory_bytes": 2.5e9, "num_processes": 2}])
    assert text.splitlines()[-1] == "| idle | 60 |  |  | 10 | 2.5 GB | 2 |"
    absent = {"name": "loss", "baseline": "peer", "ratio_wall": None, "bar": 2.0}
    assert "absent" in benchmark({"losses": [absent]})
    memory = absent | {"ratio_memory": 7.06}
    assert benchmark({"losses": [memory]}).splitlines()[-1] == "| loss | peer | 7.06 | 2.0 |"
