"""The demo's prompts, queued by node ids alone, through a real running server that has the registry's archive."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
from perfusion_pack.demo.making import prompts
from perfusion_pack.demo.making.queue_client import PromptError, QueueClient
from perfusion_pack.demo.making.template_layouts import TEMPLATES, file_name

SHORT = {"preset": "Custom", "steps": 3, "batch_size": 2, "samples": 1}

pytestmark = pytest.mark.slow


def run(server: object, prompt: prompts.Prompt) -> dict[str, list[np.ndarray]]:
    """Queue the prompt and return the pictures of each of its output nodes."""

    async def queued() -> dict[str, list[np.ndarray]]:
        async with QueueClient(server.url) as client:
            outputs = await client.run(prompt, "test")
        return {name: [np.asarray(picture) for picture in pictures] for name, pictures in outputs.items()}

    return asyncio.run(queued())


def listed(server: object) -> list[str]:
    """The concept files that the loader offers."""
    node = server.get("/object_info/PerfusionLoadConcept")["PerfusionLoadConcept"]
    found = node["input"]["required"]["concept_file"]
    return found[1]["options"] if found[0] == "COMBO" else found[0]


def saved(server: object) -> set[str]:
    return {path.name for path in (server.base_directory / "output").rglob("*") if path.is_file()}


def test_the_server_lists_the_templates_and_serves_their_thumbnails(running_host):
    templates = running_host.get("/api/workflow_templates")["perfusion"]
    assert {file_name(template) for template in TEMPLATES} == set(templates)
    assert running_host.get("/api/workflow_templates/perfusion/Perfusion%2001%20First%20picture.json")["nodes"]


def test_the_server_has_what_the_archive_holds(running_host):
    (pack,) = (running_host.base_directory / "custom_nodes").iterdir()
    assert (
        (pack / "__init__.py").is_file() and not (pack / "tests").exists() and not (pack / "demo" / "making").exists()
    )


def test_the_shipped_concepts_are_listed(running_host):
    assert {prompts.FIRST_CONCEPT, prompts.SECOND_CONCEPT} <= set(listed(running_host))


def test_first_picture(running_host):
    """The concept changes the picture, and another bias changes it again; strength 0 is the model alone."""
    plain = run(running_host, prompts.sample_prompt("a photo of a teddy on the beach", [], batch=1))["picture"]
    prompt = prompts.first_picture_prompt("a photo of a teddy on the beach", batch=1)
    prompt["concept0"]["inputs"]["strength"] = 0.0
    np.testing.assert_array_equal(run(running_host, prompt)["picture"][0], plain[0])

    first = run(running_host, prompts.first_picture_prompt(batch=2))["picture"]
    assert [picture.shape for picture in first] == [(128, 128, 3)] * 2
    lower = run(running_host, prompts.first_picture_prompt(bias=0.35, batch=2))["picture"]
    assert not np.array_equal(first[0], lower[0])


def test_the_sweep_paints_what_each_bias_paints_and_encodes_once(running_host):
    """The template "Sweep the bias"; another list of biases runs nothing before the sampler but the sweep itself."""
    text = "a photo of a <hugsy> in the snow"
    grid = run(running_host, prompts.sweep_prompt(text, 1, biases="0.45, 1.1", batch=1))["picture"][0]
    assert grid.shape[1] == 2 * 128 + 4
    for left, bias in ((0, 0.45), (132, 1.1)):
        alone = run(running_host, prompts.first_picture_prompt(text, bias=bias, batch=1))["picture"][0]
        # Saving a picture cuts off what follows the whole number, joining pictures rounds it.
        assert np.abs(grid[-128:, left : left + 128].astype(int) - alone).max() <= 1

    run(running_host, prompts.sweep_prompt(text, biases="0.45, 0.8", batch=1))
    run(running_host, prompts.sweep_prompt(text, biases="0.5, 0.8", batch=1))
    latest = max(running_host.get("/history").values(), key=lambda entry: entry["prompt"][0])
    (cached,) = (told["nodes"] for kind, told in latest["status"]["messages"] if kind == "execution_cached")
    assert set(cached) == {"demo", "concept0", "gate", "positive", "negative", "latent"}


def test_a_gate_without_its_first_concept_and_without_any(running_host):
    """As a front end sends it where the first loader, or every one, is bypassed or muted."""
    text = "a photo of a <sippy> on the grass"
    prompt = prompts.two_concepts_prompt(text, batch=1)
    del prompt["concept0"], prompt["gate"]["inputs"]["concepts.concept0"]
    alone = run(running_host, prompts.sample_prompt(text, [(prompts.SECOND_CONCEPT, prompts.BIAS)], batch=1))
    np.testing.assert_array_equal(run(running_host, prompt)["picture"][0], alone["picture"][0])

    del prompt["concept1"], prompt["gate"]["inputs"]["concepts.concept1"]
    prompt["positive"]["inputs"]["text"] = "a photo of a cup on the grass"
    base = run(running_host, prompts.sample_prompt("a photo of a cup on the grass", [], batch=1))["picture"][0]
    np.testing.assert_array_equal(run(running_host, prompt)["picture"][0], base)


def test_two_concepts_in_either_order(running_host):
    files = [prompts.FIRST_CONCEPT, prompts.SECOND_CONCEPT]
    one = run(running_host, prompts.two_concepts_prompt(batch=1, concept_files=files))["picture"][0]
    other = run(running_host, prompts.two_concepts_prompt(batch=1, concept_files=files[::-1]))["picture"][0]
    assert one.shape == (128, 128, 3)
    assert np.abs(one.astype(int) - other.astype(int)).max() <= 2


def test_concepts_on_any_of_the_inputs_of_the_gate(running_host):
    """Old hosts show four of them, and take the others from prompts too."""
    prompt = prompts.two_concepts_prompt(batch=1)
    expected = run(running_host, prompt)["picture"][0]
    inputs = prompt["gate"]["inputs"]
    inputs["concepts.concept9"] = inputs.pop("concepts.concept1")
    np.testing.assert_array_equal(run(running_host, prompt)["picture"][0], expected)


def test_train_gate_sample_and_save_in_one_prompt(running_host):
    """ "Train a concept" with a copy saved by hand; the new files are in the loader's list at once."""
    prompt = prompts.train_prompt(
        "bruno", "a <bruno> at night", batch=1, file_name="trained", save_again_as="again", **SHORT
    )
    pictures = run(running_host, prompt)
    assert len(pictures["picture"]) == len(pictures["report"]) == len(pictures["loss"]) == 1
    assert {"trained.safetensors", "again.safetensors"} <= set(listed(running_host))

    from_file = prompts.sample_prompt("a <bruno> at night", [("trained.safetensors", prompts.BIAS)], batch=1)
    # In the training's own run the concept had the same gate, and what a file rounds was rounded there already.
    np.testing.assert_array_equal(run(running_host, from_file)["picture"][0], pictures["picture"][0])


def test_kept_steps_are_compared_in_the_run_of_the_training_and_later(running_host):
    """The template "Compare steps": the list fans the graph out, and a column is what the file of its step paints."""
    text, settings = "a <finny> at night", {**SHORT, "steps": 4, "keep_every": 2, "validate_every": 0, "samples": 0}
    prompt = prompts.compare_prompt("finny", text, batch=1, file_name="compared", **settings)
    grid = run(running_host, prompt)["picture"][0]
    assert grid.shape[1] == 2 * 128 + 4
    assert not {name for name in listed(running_host) if "step" in name}
    for left, file in ((0, "compared.steps/compared_step_2.safetensors"), (132, "compared.safetensors")):
        alone = run(running_host, prompts.sample_prompt(text, [(file, prompts.BIAS)], batch=1))["picture"][0]
        # Saving a picture cuts off what follows the whole number, joining pictures rounds it.
        assert np.abs(grid[-128:, left : left + 128].astype(int) - alone).max() <= 1

    for name in ("train", "pictures", "report"):
        del prompt[name]
    prompt["kept"]["inputs"].update(path="", training="compared", steps="2")
    again = run(running_host, prompt)["picture"][0]
    np.testing.assert_array_equal(again[-128:], grid[-128:, :128])


def test_cancel_stops_a_training_within_a_step_and_resume_goes_on(running_host):
    prompt = prompts.train_prompt("zippy", file_name="cancelled", **{**SHORT, "steps": 10_000})
    before = saved(running_host)

    kept = {"cancelled.safetensors", "cancelled.training_state"}

    async def cancelled_once_it_runs() -> float:
        async with QueueClient(running_host.url) as client:
            queued = asyncio.create_task(client.run(prompt, "test"))
            while not kept <= saved(running_host) - before:  # written every few steps
                await asyncio.sleep(0.5)
                assert not queued.done()
            running_host.post("/interrupt", {})
            started = time.monotonic()
            with pytest.raises(PromptError, match="cancelled"):
                await asyncio.wait_for(queued, 60)
            return time.monotonic() - started

    assert asyncio.run(cancelled_once_it_runs()) < 30
    assert saved(running_host) - before == kept
    assert "cancelled.safetensors" in listed(running_host) and "cancelled.training_state" not in listed(running_host)

    # More steps than 3 were made, so that what is left to do are the checks and the samples.
    resumed = prompts.train_prompt("zippy", file_name="cancelled", **SHORT, resume=True)
    assert len(run(running_host, resumed)["report"]) == 1
    assert saved(running_host) - before == kept | {"cancelled.report.jpg"}


@pytest.mark.parametrize(
    "node, inputs, expected",
    [
        ("concept0", {"concept_file": "missing.safetensors"}, "missing.safetensors.*was not found in"),
        ("concept0", {"concept_file": "../../etc.safetensors"}, "was not found in"),
        ("concept0", {"bias": 7.0}, "bigger than max"),
        ("gate", {"key_lock": "sideways"}, "not in list"),
        ("gate", {"concepts.concept0": ["positive", 0]}, "(?i)mismatch"),
    ],
)
def test_a_bad_prompt_is_refused_with_a_sentence(running_host, node, inputs, expected):
    prompt = prompts.first_picture_prompt(batch=1)
    prompt[node]["inputs"].update(inputs)
    with pytest.raises(PromptError, match=expected) as refused:
        run(running_host, prompt)
    assert "Traceback" not in str(refused.value)


def test_a_bad_word_ends_the_training_with_a_sentence(running_host):
    prompt = prompts.train_prompt("hugsy", **SHORT)
    prompt["train"]["inputs"]["word"] = "two words"
    with pytest.raises(PromptError, match="word"):
        run(running_host, prompt)
