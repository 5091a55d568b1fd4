"""Curves are drawn from the log alone, and only what was logged."""

import json

from PIL import Image

from hf_ssl.report.curves import draw_curves, read_log


def write(folder, *lines, tail=""):
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + tail)


def step(number, **terms):
    terms = terms or {"objective": 100.0 / number}
    return {"step": number, "loss": sum(terms.values()), "terms": terms, "learning_rate": 1e-3 / number}


def test_a_run_gets_its_loss_rate_and_probe(tmp_path):
    probes = [{"step": at, "evaluation": {"knn/top1": 0.5 + at / 100}} for at in (2, 4)]
    write(tmp_path, {"run": {}}, step(1, objective=900.0, mix=3.0), step(4, objective=2.0, mix=1.0), *probes)
    paths = draw_curves(tmp_path)
    assert sorted(path.name for path in paths) == ["knn.png", "learning_rate.png", "loss.png"]
    assert {path.parent for path in paths} == {tmp_path / "report"}
    for path in paths:
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("L").getcolors(256) or range(257)) > 2  # something is drawn
    assert sorted((tmp_path / "report").iterdir()) == sorted(paths)


def test_other_numbers_give_another_picture_and_the_same_the_same(tmp_path):
    def drawn(*lines):
        write(tmp_path, *lines)
        return {path.name: path.read_bytes() for path in draw_curves(tmp_path)}

    first = drawn(step(1), step(2))
    assert drawn(step(1), step(2)) == first
    assert drawn(step(1), step(3))["loss.png"] != first["loss.png"]


def test_what_was_never_logged_is_not_drawn(tmp_path):
    assert draw_curves(tmp_path) == []
    write(tmp_path, {"run": {}})
    assert draw_curves(tmp_path) == []
    write(tmp_path, {"run": {}}, {"step": 3, "evaluation": {"knn/top1": 0.5, "health/rankme": 9.0}})
    assert sorted(path.name for path in draw_curves(tmp_path)) == ["health.png", "knn.png"]


def test_a_line_that_a_crash_cut_off_is_passed_over(tmp_path):
    write(tmp_path, step(1), step(2), tail='{"step": 3, "lo')
    assert [line["step"] for line in read_log(tmp_path / "log.jsonl")] == [1, 2]
    assert draw_curves(tmp_path)


def test_negative_losses_are_drawn_too(tmp_path):
    drawn = []
    for middle in (-400.0, -100.0):
        losses = enumerate((-500.0, middle, -1.0), start=1)
        write(tmp_path, *(step(at, objective=value, mix=0.1) for at, value in losses))
        drawn.append(draw_curves(tmp_path)[0].read_bytes())
    assert drawn[0] != drawn[1]


def test_a_single_step_can_be_drawn(tmp_path):
    write(tmp_path, step(1))
    assert len(draw_curves(tmp_path)) == 2
