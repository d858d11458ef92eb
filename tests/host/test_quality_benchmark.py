"""The quality benchmark at its smallest size: every method trains, paints and is read; a second run finds it done."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from needs_host import needs_host, train_lora_takes
from perfusion_pack.demo import load
from perfusion_pack.demo.making import recogniser
from quality import archive, curves, plan, prompts, reading, run, workbench
from quality.cache import Cache

pytestmark = pytest.mark.skipif(
    not recogniser.WEIGHTS.is_file() or not (load.WEIGHTS / "unet.safetensors").is_file(),
    reason="demo/ holds no weights of the demo model or its recogniser",
)

every_method = needs_host(
    "0.19.0",
    "an input of Train LoRA that one of the benchmark's methods sets",
    train_lora_takes("quantized_backward"),
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quality")
    assert run.main(["--smallest", "--cache", str(folder), "--device", "cpu"]) == 0
    return folder


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "results" / f"{name}.csv").open() as file:
        return list(csv.DictReader(file))


@every_method
@pytest.mark.slow
def test_every_experiment_has_its_table(finished) -> None:
    methods = {row["method"]: row for row in rows(finished, "methods-varied")}
    assert set(methods) == {"real pictures", *(variant.label for variant in plan.METHODS)}
    assert float(methods["superclass word"]["obedience"]) == pytest.approx(1)
    assert {"thing right", "first of 200", "median rank", "off: body"} <= set(methods["superclass word"])
    assert len(rows(finished, "best-varied")) == len(plan.METHODS), "without the superclass word, with all of ours"
    few = {row["method"] for row in rows(finished, "best-entangled")}
    assert few == {curves.BEST, "perfusion local", "textual inversion"}
    assert len(rows(finished, "lock")) == len(plan.LOCKS)
    assert len(rows(finished, "ablations")) == 4
    assert {row["loaded"] for row in rows(finished, "several")} == {plan.DIFFERENT, plan.SAME}
    assert {row["method"] for row in rows(finished, "several")} >= {"real pictures", "perfusion local"}
    assert len(rows(finished, "harm")) == 6
    names = {path.name for path in (finished / "results").iterdir()}
    assert {"results.md", "pareto-varied.png", "lock.png", "sheet-varied-sippy.jpg", "training-sippy.jpg"} <= names


@every_method
@pytest.mark.slow
def test_a_second_run_has_nothing_to_do(finished) -> None:
    before = (finished / "results" / "methods-varied.csv").read_text()
    assert run.main(["--smallest", "--cache", str(finished), "--device", "cpu", "--minutes", "0"]) == 0
    assert (finished / "results" / "methods-varied.csv").read_text() == before


@every_method
@pytest.mark.slow
def test_the_budget_of_a_finished_run_is_nothing(finished, capsys) -> None:
    assert run.main(["--smallest", "--cache", str(finished), "--device", "cpu", "--budget"]) == 0
    total = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| all |"))
    done = [float(cell) for cell in total.split("|")[2:-1]]
    assert all(count > 0 for count in done[0:6:2]) and done[1:6:2] == [0, 0, 0] and done[6] == 0


@every_method
@pytest.mark.slow
def test_another_machine_goes_on_from_the_numbers_alone(finished, tmp_path) -> None:
    """Without a training or a painting of the first one: same tables, nothing to do."""
    assert archive.unpack(finished / "results" / archive.NAME, Cache(tmp_path)) > 0
    assert not list(tmp_path.rglob("*.safetensors"))
    assert run.main(["--smallest", "--cache", str(tmp_path), "--device", "cpu", "--minutes", "0"]) == 0
    for name in ("methods-varied", "best-entangled", "ablations", "several", "harm"):
        assert rows(tmp_path, name) == rows(finished, name)
    assert "contact sheet of sippy, varied" in (tmp_path / "results" / "results.md").read_text()


def test_out_of_time_says_so_and_reports_what_is_missing(tmp_path) -> None:
    arguments = ["--smallest", "--cache", str(tmp_path), "--device", "cpu", "--minutes", "0"]
    assert run.main(arguments) == run.OUT_OF_TIME
    assert "- methods on sippy, varied" in (tmp_path / "results" / "results.md").read_text()


def test_a_caption_of_the_lora_goes_with_its_own_picture() -> None:
    """One pass over a batch does what as many passes over single pictures do."""
    import comfy.conds
    from quality.methods.host_lora import _each_with_its_caption

    def fwd_bwd(sampler, model, sigmas, noise, latents, conds, indices, extra, dataset_size, bwd):
        encodings = conds[indices[0]]["model_conds"]["c_crossattn"].process_cond(batch_size=len(latents)).cond
        return (latents * encodings.mean(dim=(1, 2))[:, None]).square().mean()

    encodings, latents = torch.randn(9, 1, 4, 3), torch.randn(3, 5)
    conds = [{"model_conds": {"c_crossattn": comfy.conds.CONDCrossAttn(encoding)}} for encoding in encodings]
    together = _each_with_its_caption(fwd_bwd)
    chosen = [7, 2, 4]
    loss = together(None, None, None, None, latents, conds, chosen, {}, 9)
    alone = [fwd_bwd(None, None, None, None, latents[i : i + 1], conds, [chosen[i]], {}, 9, True) for i in range(3)]
    assert loss == pytest.approx(float(sum(alone) / 3), rel=1e-5)


def test_a_mask_weighs_what_the_lora_is_told_off_for() -> None:
    """An error outside a picture's own mask costs nothing, and the node's loss is its own again afterwards."""
    from quality.methods.host_lora import _each_with_its_caption

    def fwd_bwd(sampler, model, sigmas, noise, latents, conds, indices, extra, dataset_size, bwd):
        return sampler.loss_fn(latents, torch.zeros_like(latents))

    sampler = SimpleNamespace(loss_fn=torch.nn.MSELoss())
    own = sampler.loss_fn
    weights = torch.zeros(3, 1, 2, 2)
    weights[1, 0, 0, 0] = weights[2, 0, 1, 1] = 1
    latents = torch.zeros(2, 4, 2, 2)
    latents[0, :, 0, 0], latents[1, :, 0, 0] = 2, 5  # inside the mask of picture 1, outside that of picture 2
    conds = [{"model_conds": {}}] * 3
    one_pass = _each_with_its_caption(fwd_bwd, weights)
    assert one_pass(sampler, None, None, None, latents, conds, [1, 2], {}, 3) == pytest.approx(2.0)
    assert sampler.loss_fn is own


def test_prompts_ask_in_the_words_of_the_world() -> None:
    asked = prompts.single_prompts("teddy")
    assert len({prompt.text for prompt in asked}) == len(asked) == 24
    assert {prompt.asked["background"] for prompt in asked} == set(prompts.BACKGROUNDS)
    assert {name for prompt in asked for name in prompt.asked} == {
        "category", "background", "accessory", "second", "second_colour", "size", "place",
    }  # fmt: skip
    assert all(("size" in p.asked or "place" in p.asked) <= ("second" not in p.asked) for p in asked)
    assert asked[0].text.format("<hugsy>").startswith("a photo of a <hugsy> with a hat")


def test_size_and_place_are_read_from_the_body() -> None:
    mask = torch.zeros(128, 128, dtype=torch.bool)
    assert reading.place_of(mask) == "nowhere"
    mask[40:80, 20:60] = True
    assert reading.place_of(mask) == "left" and reading.place_of(mask.flip(-1)) == "right"
    assert reading.size_of(mask, (1000, 2000)) == "" and reading.size_of(mask, (1700, 2000)) == "small"


def test_the_second_object_is_shown_as_a_main_one() -> None:
    """A disc where the world draws second objects lands where it draws main ones, on either side."""
    rows, columns = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    disc = ((rows - 76) ** 2 + (columns - 104) ** 2 < 21**2).float()
    main = (columns - 43).abs() < 20
    pictures = torch.stack([disc.expand(3, -1, -1), disc.flip(-1).expand(3, -1, -1)])
    shown = reading.second_object(pictures, torch.stack([main, main.flip(-1)]))[:, 0]
    for picture in shown:
        centre = (picture * columns).sum() / picture.sum(), (picture * rows).sum() / picture.sum()
        assert abs(centre[0] - 64) < 4 and abs(centre[1] - 74) < 6
        assert picture.sum() == pytest.approx(torch.pi * 29**2, rel=0.1)


def test_a_setting_that_came_later_leaves_known_cells_known() -> None:
    """A cell is known by all settings of its training, so one that asks for nothing must not be among them."""
    from quality.methods import METHODS

    complete = METHODS["perfusion local"].complete
    assert "relative_offset_rate" not in complete({}) and complete({})["attention_weight"] is None
    assert complete({"relative_offset_rate": 0.01})["relative_offset_rate"] == 0.01


@pytest.mark.slow
def test_the_models_keep_their_values_through_every_training(tmp_path) -> None:
    from quality.methods import METHODS

    bench = workbench.open_workbench(Cache(tmp_path), sampling_steps=1)
    module = bench.model.model.diffusion_model
    before = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    lesson = bench.lesson("sippy", plan.SAME_PLACE)
    for name in ("full fine-tuning", "custom diffusion"):
        small = {"steps": 1, "batch_size": 1, "prior_pictures": 1}
        artefact = METHODS[name].train(bench, lesson, small, seed=0)
        assert any(tensor.abs().max() > 0 for key, tensor in artefact.tensors.items() if key.startswith("weight."))
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
