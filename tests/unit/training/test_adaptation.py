"""Practice on unlabelled texts: it learns, it never sees held-out texts, and a kill changes nothing."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.forked import end, start_finetune
from tests.fixtures.training import MakeParams
from tests.fixtures.waiting import wait_for
from tokka.data.normalising import key
from tokka.data.preparation.prepared import load
from tokka.data.preparation.unlabelled import unlabelled_texts
from tokka.errors import TokkaError, UsageError
from tokka.model.base import resolve_base
from tokka.params import Params, parse_params
from tokka.provenance import params_digest, run_key, step_key
from tokka.settings import Settings
from tokka.training.adaptation import ADAPTED, FACTS, adapt
from tokka.training.adaptation_losses import IGNORED, MaskedLoss
from tokka.training.finetuning import finetune, finetune_step
from tokka.training.setup.training_setup import TrainingSetup, own_randomness_and_threads, prepare_training

METHODS = ["contrastive", "mlm"]


def with_adaptation(params: Params, **adaptation: Any) -> Params:
    return parse_params({**params.model_dump(), "adaptation": {"learning_rate": 1e-3, "batch_size": 16, **adaptation}})


def make_setup(prepared: Path, params: Params, place: Path, unlabelled: Path | None = None) -> TrainingSetup:
    return prepare_training(load(prepared), params, resolve_base(params.model, place), unlabelled)


def write_table(path: Path, texts: list[str], column: str = "text") -> Path:
    path.write_text("".join(json.dumps({column: text}) + "\n" for text in texts))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_the_loss_falls_and_the_encoder_moves(
    prepared: Path, make_params: MakeParams, tmp_path: Path, method: str
) -> None:
    params = with_adaptation(make_params(), method=method, epochs=3, learning_rate=3e-3)
    setup = make_setup(prepared, params, tmp_path)
    before = {name: value.clone() for name, value in setup.model.state_dict().items()}
    with own_randomness_and_threads(params):
        practice = adapt(setup, tmp_path)
    assert practice is not None
    assert practice.loss_last < practice.loss_first - 0.1
    assert practice.steps == 3 * -(-practice.texts // 16)
    after = setup.model.state_dict()
    assert not torch.equal(
        before["encoder.embeddings.word_embeddings.weight"], after["encoder.embeddings.word_embeddings.weight"]
    )
    assert all(torch.equal(before[name], after[name]) for name in before if name.startswith("head."))


def test_without_a_method_nothing_is_drawn_or_written(
    prepared: Path, make_params: MakeParams, tmp_path: Path, trained: tuple[Path, dict[str, Any]]
) -> None:
    other = with_adaptation(make_params(), method="none", epochs=9)
    setup = make_setup(prepared, other, tmp_path)
    state = torch.random.get_rng_state()
    assert adapt(setup, tmp_path / "work") is None
    assert torch.equal(state, torch.random.get_rng_state())
    assert not (tmp_path / "work").exists()
    outcome = finetune(prepared, other, tmp_path / "model", tmp_path / "work")
    assert outcome["weights_sha256"] == trained[1]["weights_sha256"]
    assert not any(name.startswith("adaptation_") for name in outcome["metrics"])
    assert params_digest(other) == params_digest(make_params())


@pytest.mark.parametrize("strategy", ["full", "frozen", "partial"])
def test_every_strategy_gets_a_practised_encoder_and_keeps_what_it_freezes(
    prepared: Path, make_params: MakeParams, tmp_path: Path, strategy: str
) -> None:
    params = with_adaptation(make_params(strategy=strategy, layers=1), method="contrastive")
    setup = make_setup(prepared, params, tmp_path)
    before = {name: parameter.requires_grad for name, parameter in setup.model.named_parameters()}
    outcome = finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    with own_randomness_and_threads(params):
        adapt(setup, tmp_path)
    assert {name: parameter.requires_grad for name, parameter in setup.model.named_parameters()} == before
    metrics = outcome["metrics"]
    assert metrics["adaptation_cpu_seconds"] > 0
    assert metrics["training_cpu_seconds"] > metrics["adaptation_cpu_seconds"]
    assert metrics["validation_accuracy"] > 0.5


def test_no_held_out_text_is_practised_on(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    rows = load(prepared)
    held_out = rows.test.column("text").to_pylist()[:20] + rows.validation.column("text").to_pylist()[:20]
    disguised = [f"  {text.upper()} !!" for text in held_out]
    path = write_table(tmp_path / "more.jsonl", [*held_out, *disguised, "where is the router offline", "My Router?"])
    params = with_adaptation(make_params(), method="mlm")
    texts = unlabelled_texts(rows, params, path)
    everything = [*rows.test.column("text").to_pylist(), *rows.validation.column("text").to_pylist()]
    assert not {key(text) for text in texts} & {key(text) for text in everything}
    assert {"where is the router offline", "My Router?"} <= set(texts)
    assert len({key(text) for text in texts}) == len(texts)


def test_the_vocabulary_covers_what_only_unlabelled_texts_say(
    prepared: Path, make_params: MakeParams, tmp_path: Path
) -> None:
    path = write_table(tmp_path / "more.jsonl", ["router offline network monday", "password locked account forgot"])
    params = with_adaptation(make_params(), method="mlm")
    with_more, without = make_setup(prepared, params, tmp_path, path), make_setup(prepared, params, tmp_path)
    assert len(with_more.vocabulary.ids) > len(without.vocabulary.ids)
    assert len(with_more.unlabelled.ids) == len(without.unlabelled.ids) + 2
    size = with_more.model.encoder.get_input_embeddings().num_embeddings
    assert max(int(ids.max()) for ids in with_more.unlabelled.ids) < size


def test_more_texts_than_wanted_are_drawn_from(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    rows = load(prepared)
    few = [with_adaptation(make_params(seed=seed), method="mlm", max_rows=30) for seed in (1, 1, 2)]
    one, same, other = (unlabelled_texts(rows, params, None) for params in few)
    assert len(one) == 30
    assert one == same != other


def test_hidden_tokens_are_words_and_the_shares_hold(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    setup = make_setup(prepared, with_adaptation(make_params(), method="mlm"), tmp_path)
    found = setup.unlabelled
    special = torch.from_numpy(found.special)
    assert found.mask is not None
    loss = MaskedLoss(setup.model, found.mask, special, 0.15)
    ids = torch.randint(int(special.max()) + 1, len(setup.vocabulary.ids), (400, 50))
    ids[:, 0] = special[0]
    torch.manual_seed(0)
    noisy, wanted = loss.hide(ids)
    chosen = wanted != IGNORED
    assert not torch.isin(ids[chosen], special).any()
    assert torch.equal(noisy[~chosen], ids[~chosen])
    assert torch.equal(wanted[chosen], ids[chosen])
    assert chosen.float().mean().item() == pytest.approx(0.15 * 49 / 50, abs=0.01)
    assert (noisy[chosen] == found.mask).float().mean().item() == pytest.approx(0.8, abs=0.03)
    replaced = chosen & (noisy != found.mask) & (noisy != ids)
    assert (replaced.sum() / chosen.sum()).item() == pytest.approx(0.1, abs=0.03)


@pytest.mark.parametrize("method", METHODS)
def test_kept_practice_is_used_and_gives_the_same_weights(
    prepared: Path, make_params: MakeParams, tmp_path: Path, method: str
) -> None:
    params = with_adaptation(make_params(), method=method)
    whole = finetune(prepared, params, tmp_path / "one", tmp_path / "whole")
    again = finetune(prepared, params, tmp_path / "two", tmp_path / "fresh")
    setup = make_setup(prepared, params, tmp_path)
    with own_randomness_and_threads(params):
        adapt(setup, tmp_path / "half")
    resumed = finetune(prepared, params, tmp_path / "three", tmp_path / "half")
    assert whole["weights_sha256"] == again["weights_sha256"] == resumed["weights_sha256"]
    assert resumed["metrics"]["adaptation_loss_last"] == whole["metrics"]["adaptation_loss_last"]


def test_a_damaged_leftover_is_practised_anew(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    params = with_adaptation(make_params(strategy="frozen"), method="contrastive")
    whole = finetune(prepared, params, tmp_path / "one", tmp_path / "work")
    (tmp_path / "work" / ADAPTED).write_bytes(b"half")
    again = finetune(prepared, params, tmp_path / "two", tmp_path / "work")
    assert again["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize("adapted", [True, False])
def test_a_sigkill_in_or_after_the_practice_changes_nothing(
    prepared: Path, make_params: MakeParams, tmp_path: Path, adapted: bool
) -> None:
    params = with_adaptation(make_params(epochs=3), method="contrastive", epochs=8)
    whole = finetune(prepared, params, tmp_path / "one", tmp_path / "whole")
    work = tmp_path / "killed"
    said = tmp_path / "said"
    process = start_finetune(prepared, params, tmp_path / "two", work, said)
    wait_for(lambda: said.exists() and "to practise on" in said.read_text())
    wait_for(lambda: not adapted or (work / FACTS).exists())
    assert end(process, signal.SIGKILL) == -signal.SIGKILL
    assert (work / FACTS).exists() == adapted
    resumed = finetune(prepared, params, tmp_path / "two", work)
    assert resumed["weights_sha256"] == whole["weights_sha256"]


def test_the_texts_are_part_of_both_keys(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    from tokka.data.fetching import source_digest

    settings = Settings.from_environment({"TOKKA_HOME": str(tmp_path / "home"), "TOKKA_ROOT": str(tmp_path)})
    path = write_table(tmp_path / "more.jsonl", ["the router is offline", "print this page"])
    (tmp_path / "suite.json").write_text("{}")
    params = with_adaptation(make_params(strategy="frozen"), method="contrastive", source="more.jsonl")
    tree = {**params.model_dump(), "data": {"source": "more.jsonl"}, "validation": {"suite": "suite.json"}}
    params = parse_params(tree)
    first = source_digest(params, settings)
    assert not finetune_step(prepared, params, settings, tmp_path / "a", "d" * 64)["reused"]
    assert finetune_step(prepared, params, settings, tmp_path / "a", "d" * 64)["reused"]
    write_table(path, ["the router is offline", "print that page"])
    assert not finetune_step(prepared, params, settings, tmp_path / "b", "d" * 64)["reused"]
    second = source_digest(params, settings)
    keys = [run_key(params, source_digest=digest, base_digest="b") for digest in (first, second)]
    assert keys[0] != keys[1]
    other = parse_params({**tree, "adaptation": {**tree["adaptation"], "method": "mlm"}})
    assert step_key("finetune", params, "d") != step_key("finetune", other, "d")


@pytest.mark.parametrize(
    ("name", "column", "kind", "words"),
    [
        ("absent.csv", "", TokkaError, "adaptation.source"),
        ("more.jsonl", "body", UsageError, "no column 'text'"),
        ("more.xlsx", "text", TokkaError, "not a format that is read"),
    ],
)
def test_a_wrong_table_is_named(
    prepared: Path, make_params: MakeParams, tmp_path: Path, name: str, column: str, kind: type, words: str
) -> None:
    if column:
        write_table(tmp_path / name, ["the router is offline"], column)
    params = with_adaptation(make_params(), method="mlm", source=str(tmp_path / name))
    with pytest.raises(kind, match=words):
        finetune(prepared, params, tmp_path / "model", tmp_path / "work")
    assert not (tmp_path / "model").exists()


def test_a_rate_that_diverges_is_named(prepared: Path, make_params: MakeParams, tmp_path: Path) -> None:
    setup = make_setup(prepared, with_adaptation(make_params(), method="contrastive"), tmp_path)
    with torch.no_grad():
        setup.model.encoder.get_input_embeddings().weight.fill_(float("nan"))
    with pytest.raises(TokkaError, match=r"the loss of the adaptation is nan"):
        adapt(setup, tmp_path)
