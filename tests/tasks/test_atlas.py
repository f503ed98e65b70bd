"""Atlas: the same bytes anywhere, three worlds that know nothing of one another, one answer to each question."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from rest_jax.config.loader import load
from rest_jax.config.settings import RestConfig, TaskSettings
from rest_jax.core.demonstration import Demonstration
from rest_jax.models import tokenizer
from rest_jax.tasks.atlas import SIZES, Region, atlas, make_regions
from rest_jax.tasks.atlas_questions import HELD_OUT_PAIRS, HELD_OUT_WORDINGS, follow
from rest_jax.tasks.atlas_text import RELATION, RELATIONS
from rest_jax.tasks.atlas_world import Kind, World
from rest_jax.tasks.check import check
from rest_jax.tasks.metrics import normalise
from rest_jax.tasks.registry import task as open_task
from rest_jax.tasks.splits import Split
from rest_jax.tasks.support import Support
from rest_jax.tasks.task import Task
from rest_jax.tools.search.corpus import read_corpus
from rest_jax.tools.search.index import IndexSettings
from rest_jax.tools.search.search import Searcher

DEVELOPED, PROOF = 7, 11
"""The default world, on whose select split settings are chosen; and that of configs/atlas_proof.yaml."""

DIGESTS = {
    DEVELOPED: {
        "task": "atlas",
        "version": "1+seed7",
        "corpus": "044d2851a190e787f22f03f899c4e6c3dd7d08b99640e5c0fe5c14f60ed6072c",
        "train_questions": "0cf997fa12be7186fa819f06a07223b5074519fd629374be55135d4c14f6b899",
        "select_questions": "6b04233b6468365b358dd489641d41aacc59bef5cef6e1d72878f0f5efc9c311",
        "report_questions": "afc3ba1d3ad81a8e0dc270a555fd5a5424c30936bb7b0bdf03a0ada191c5076c",
    },
    PROOF: {
        "task": "atlas",
        "version": "1+seed11",
        "corpus": "838cd7b686e6fdc0b011c8daf418f5a47b9e447561dd056a084a02d65247a5ff",
        "train_questions": "8bb103328ab7e7082bef28944eaf627d66473a626acb6d1dc8452ba52702550b",
        "select_questions": "e032a37628c3ea6ca4f26c6d540d35e3d23b46b3f986efdc5508b035e749be75",
        "report_questions": "1c90d5850abac24bc1c1c08a0cf3a5e7ca73f0ee5586faa71066f3a737383742",
    },
}


@pytest.fixture(scope="module", params=DIGESTS)
def seed(request: pytest.FixtureRequest) -> int:
    return request.param


@pytest.fixture(scope="module")
def regions(seed: int) -> dict[Split, Region]:
    return make_regions(seed)


@pytest.fixture(scope="module")
def task(seed: int, tmp_path_factory: pytest.TempPathFactory) -> Task:
    return atlas(tmp_path_factory.mktemp("atlas"), seed)


@pytest.fixture(scope="module")
def searcher(task: Task, tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REST_JAX_CACHE", str(tmp_path_factory.mktemp("cache")))
        return Searcher(read_corpus(task.corpus()), IndexSettings())


def test_the_seed_decides_every_byte(task: Task, seed: int) -> None:
    """A change here changes every figure measured on Atlas: raise `version` with it."""
    assert task.digests() == DIGESTS[seed]


def test_another_seed_makes_all_three_worlds_anew() -> None:
    developed, proof = make_regions(DEVELOPED), make_regions(PROOF)
    for one, other in zip(developed.values(), proof.values(), strict=True):
        assert len(one.texts.keys() & other.texts.keys()) < 0.2 * len(one.texts)
    for one, other in itertools.product(developed.values(), proof.values()):
        assert one.texts.items().isdisjoint(other.texts.items())
        assert {(q.text, q.answer) for q in one.questions}.isdisjoint((q.text, q.answer) for q in other.questions)


def test_settings_choose_the_world(tmp_path: Path) -> None:
    assert open_task(TaskSettings("atlas"), tmp_path).digests() == DIGESTS[DEVELOPED]
    proof = load(Path(__file__).parents[2] / "configs" / "atlas_proof.yaml", RestConfig).value.task
    assert open_task(proof, tmp_path).digests() == DIGESTS[PROOF]


def test_sizes_and_hops(task: Task) -> None:
    for split, questions in task.splits.items():
        assert len(questions) == SIZES[split]
        assert len({question.id for question in questions}) == len({question.text for question in questions})
        for n in (100, 300, len(questions)):
            hops = Counter(question.meta["hops"] for question in questions[:n])
            assert (hops[2] / n, hops[3] / n, hops[4] / n) == (0.5, 0.35, 0.15)


def test_worlds_share_no_word_of_a_name_no_year_and_no_article(regions: dict[Split, Region]) -> None:
    for one, two in itertools.combinations(regions.values(), 2):
        assert _name_words(one.world).isdisjoint(_name_words(two.world))
        assert _years(one.world).isdisjoint(_years(two.world))
        assert set(one.texts.values()).isdisjoint(two.texts.values())
        assert {q.answer for q in one.questions}.isdisjoint(q.answer for q in two.questions)


FORMS = {"River", "Old", "Song", "Tale", "Book", "of", "School", "Guild", "Museum"}


def _name_words(world: World) -> set[str]:
    return {word for title in world.entities for word in title.split()} - FORMS


def _years(world: World) -> set[str]:
    return {value for entity in world.entities.values() for value in entity.facts.values() if value.isdigit()}


def test_a_world_is_whole(regions: dict[Split, Region]) -> None:
    """Every entity has exactly the relations of its kind, and every fact leads where the relation says."""
    for region in regions.values():
        entities = region.world.entities
        for entity in entities.values():
            relations = {relation.key for relation in RELATIONS if relation.of is entity.kind}
            assert set(entity.facts) - {"appeared"} == relations
            assert all(value in region.texts[entity.title] for value in entity.facts.values())
            for key in relations:
                kind, value = RELATION[key].leads_to, entity.facts[key]
                assert value.isdigit() if kind is None else entities[value].kind is kind
            assert entity.alias not in entities


def test_every_question_has_one_answer(regions: dict[Split, Region]) -> None:
    """Walked through all facts as a relation, not as a function: the set of ends is the answer alone."""
    for region in regions.values():
        facts: dict[tuple[str, str], set[str]] = {}
        for entity in region.world.entities.values():
            for key, value in entity.facts.items():
                facts.setdefault((entity.title, key), set()).add(value)
        for question in region.questions:
            ends = {question.meta["path"][0]}
            for key in question.meta["relations"]:
                ends = set().union(*(facts[end, key] for end in ends))
            assert ends == {question.answer}
            assert follow(region.world, question.meta["path"][0], question.meta["relations"])[-1] == question.answer


def test_every_hop_is_needed(regions: dict[Split, Region]) -> None:
    """A title on the path stands in its predecessor's article, in none before, and (but the start) in no question."""
    for region in regions.values():
        for question in region.questions:
            path = question.meta["path"]
            shown = [f"{title}: {region.texts[title]}" for title in path[:-1]]
            assert path[0] in question.text
            for place, title in enumerate(path[1:], start=1):
                assert title in shown[place - 1]
                assert title not in question.text
                assert not any(title in text for text in shown[: place - 1])


def test_what_is_held_out_is_in_report_alone(task: Task) -> None:
    held_out_wordings = {str(wording) for wording in HELD_OUT_WORDINGS}
    for split, questions in task.splits.items():
        for question in questions:
            keys = question.meta["relations"]
            composition = any(pair in HELD_OUT_PAIRS for pair in itertools.pairwise(keys))
            wording = question.meta["wording"] in held_out_wordings
            assert question.meta["heldout"] == (composition or wording)
            assert split is Split.REPORT or not question.meta["heldout"]
    for n in (100, 300, 800):
        kinds = Counter(question.meta["heldout_by"] for question in task.splits[Split.REPORT][:n])
        assert kinds == {"": 0.8 * n, "composition": 0.1 * n, "wording": 0.1 * n}
    learnt = {key for question in task.splits[Split.TRAIN] for key in question.meta["relations"]}
    assert learnt == set(RELATION), "every single relation can be learnt"


def test_no_answer_is_worth_guessing(task: Task) -> None:
    for questions in task.splits.values():
        answers = Counter(normalise(question.answer) for question in questions)
        assert answers.most_common(1)[0][1] <= 0.02 * len(questions)
        assert not {"yes", "no"} & set(answers)
    train = Counter(normalise(question.answer) for question in task.splits[Split.TRAIN])
    assert not any(normalise(question.answer) in train for question in task.splits[Split.REPORT])


def test_namesakes_and_dead_ends(regions: dict[Split, Region]) -> None:
    for region in regions.values():
        entities = region.world.entities
        kinds = Counter(entity.kind for entity in entities.values())
        assert kinds[Kind.FAMILY] >= 40
        assert kinds[Kind.RUIN] == 30
        works = Counter(e.title.split()[-1] for e in entities.values() if e.kind is Kind.WORK)
        assert set(works.values()) == {2}


def test_titles_find_their_article_and_other_queries_do_not(searcher: Searcher, regions: dict[Split, Region]) -> None:
    for region in regions.values():
        titles = [title for question in region.questions for title in question.meta["path"][:-1]]
        assert _share(_top(searcher, title) == title for title in titles) >= 0.99
        people = [entity.title for entity in region.world.entities.values() if entity.kind is Kind.PERSON]
        assert _share(_top(searcher, person.split()[-1]) == person for person in people) <= 0.2
        aliased = [entity for entity in region.world.entities.values() if entity.alias]
        assert _share(_top(searcher, entity.alias) == entity.title for entity in aliased) <= 0.2
        assert _share(_top(searcher, f"mayor of {title}") == title for title in titles) <= 0.75
        assert _share(q.answer in searcher.search(q.text, 1)[0].passage.text for q in region.questions) <= 0.02


def test_a_world_finds_itself(searcher: Searcher, regions: dict[Split, Region]) -> None:
    for region in regions.values():
        assert _share(_top(searcher, q.text) in region.texts for q in region.questions) >= 0.99
        assert all(_top(searcher, word) in region.texts for word in _name_words(region.world))


def _top(searcher: Searcher, query: str) -> str:
    hits = searcher.search(query, 1)
    return hits[0].passage.title if hits else ""


def _share(outcomes: Iterable[bool]) -> float:
    counts = Counter(outcomes)
    return counts[True] / counts.total()


def test_demonstrations_read_the_answer_off_the_last_observation(task: Task) -> None:
    for demonstration in task.demonstrations("gold", SIZES[Split.TRAIN], seed=0):
        *searches, last = demonstration.turns
        assert [turn.action for turn in searches] == ["search"] * demonstration.question.meta["searches"]
        assert (last.action, last.argument, last.observation) == ("finish", demonstration.question.answer, None)
        assert all(len(turn.thought.split()) <= 12 for turn in demonstration.turns)
        known = demonstration.question.text
        for turn in demonstration.turns:
            assert turn.argument in known
            known = turn.observation or ""


def test_worked_examples_are_no_question_of_the_split(task: Task) -> None:
    texts = {question.text for questions in task.splits.values() for question in questions}
    assert not texts & {shot.question.text for shot in task.shots(4)}


def test_gold_answers_pass_the_metric_and_stand_in_the_corpus(task: Task) -> None:
    result = check(task)
    n = sum(SIZES.values())
    assert result.gold_correct == result.questions == n
    assert result.support == Support(n, n, n)


def test_trajectories_are_short(task: Task, smollm2: Path) -> None:
    codec = tokenizer.load(smollm2)
    lengths: dict[int, list[int]] = {2: [], 3: [], 4: []}
    for demonstration in task.demonstrations("gold", 300, seed=0):
        lengths[demonstration.question.meta["hops"]].append(len(codec.encode_untrusted(_written(demonstration))))
    means = {hops: sum(tokens) / len(tokens) for hops, tokens in lengths.items()}
    assert 130 <= means[2] <= 165
    assert max(lengths[3]) <= 256
    assert max(lengths[4]) <= 320


def _written(demonstration: Demonstration) -> str:
    lines = [f"Question: {demonstration.question.text}"]
    for turn in demonstration.turns:
        lines.append(f"Thought: {turn.thought} Action: {turn.action.capitalize()}[{turn.argument}]")
        lines += [f"Observation: {turn.observation}"] if turn.observation else []
    return "\n".join(lines)
