"""Same seed, same bits: every way to run a model, compared with the simplest one."""

from dataclasses import replace

import pytest
from seed_matrix import (
    MODELS,
    NETWORK_WAYS,
    WAYS,
    Task,
    digest,
    in_other_processes,
    is_same,
    with_backend,
    with_resumption,
)

pytestmark = pytest.mark.stress


@pytest.fixture(scope="module")
def task(tone_clips, tmp_path_factory):
    """Eight clips, two epochs."""
    paths, labels, _ = tone_clips
    folder = tmp_path_factory.mktemp("seeds")
    return Task("", paths[:8], list(map(str, labels[:8])), str(folder), n_epochs=2)


@pytest.fixture(scope="module")
def reference(task):
    """Digest of the plainest run of a model, computed once."""
    known = {}

    def of(model):
        if model not in known:
            known[model] = replace(task, model=model).run()
        return known[model]

    return of


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_bits_whatever_way_a_model_is_run(task, reference, model):
    task, wanted = replace(task, model=model), reference(model)
    cells = {name: is_same(way(task), wanted) for name, way in WAYS.items()}
    assert cells == dict.fromkeys(WAYS, True)


@pytest.mark.parametrize("model", MODELS)
def test_same_seed_same_bits_where_the_network_takes_waveforms(task, model):
    task = replace(task, model=model)
    digests = {name: way(task) for name, way in NETWORK_WAYS.items()}
    assert len(set(digests.values())) == 1, digests


def test_same_seed_same_bits_in_a_new_process(task, reference):
    tasks = [replace(task, model=model) for model in MODELS]
    assert in_other_processes(tasks) == {model: reference(model) for model in MODELS}


def test_same_seed_same_bits_in_threads_of_joblib(task, reference):
    model = "DiffRes + CNN"
    found = with_backend("threading", replace(task, model=model))
    assert is_same(found, reference(model))


@pytest.mark.parametrize("model", list(MODELS)[1:])
def test_same_seed_same_bits_where_training_was_interrupted(task, reference, model):
    assert is_same(with_resumption(replace(task, model=model)), reference(model))


@pytest.mark.parametrize("model", list(MODELS)[1:])
def test_another_seed_gives_other_bits(task, reference, model):
    pipe = replace(task, model=model).make()
    pipe[-1].set_params(random_state=1)
    assert digest(pipe.fit(task.paths, task.labels), task.paths) != reference(model)
