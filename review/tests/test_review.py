"""The review as a whole: its rules on the seen examples, its reports, its waivers, and what makes it fail."""
from __future__ import annotations

import datetime
import json
from pathlib import Path

import pytest

from lamina_review import cli, corpus, waivers
from lamina_review.findings import Finding
from lamina_review.pillars import PILLARS, name_of, pillars_of
from lamina_review.reports import machine, markdown
from lamina_review.review import Review, review
from lamina_review.rules import RULES
from lamina_review.tools import BANDIT, RUFF

CORPUS = Path(__file__).parent / "corpus"
DAY = datetime.date(2030, 1, 1)
BAD = "def make(host, conf):\n    host.create_device(conf)\n    host.define_device(conf)\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    place = tmp_path / "tree"
    place.mkdir()
    (place / "bad.py").write_text(BAD, encoding="utf-8")
    return place


def waiver(finding: Finding, until: datetime.date = DAY) -> waivers.Waiver:
    return waivers.Waiver(finding.rule, finding.path, finding.fingerprint, "it has to be so", until)


@pytest.fixture(scope="module")
def seen() -> corpus.Score:
    return corpus.score(CORPUS / "seen")


def test_every_seen_weakness_is_found(seen: corpus.Score) -> None:
    assert seen.missed == ()


def test_no_seen_good_example_is_a_hit(seen: corpus.Score) -> None:
    assert seen.false_hits == ()


def test_the_unseen_half_is_found_for_the_most_part() -> None:
    found = corpus.score(CORPUS / "unseen")
    assert found.recall > 0.5
    assert found.false_rate < 0.05


@pytest.mark.parametrize("half", ["seen", "unseen"])
def test_each_half_has_four_pairs_under_every_pillar(half: str) -> None:
    listed = [pair.name.rpartition("-")[0] for pair in corpus.pairs(CORPUS / half)]
    assert {name: listed.count(name) for name in listed} == {f"cwe-{pillar}": 4 for pillar in PILLARS}


def test_every_rule_says_why_and_names_a_weakness_below_a_pillar() -> None:
    assert all(rule.why for rule in RULES.values())
    for cwe in {*(rule.cwe for rule in RULES.values()), *BANDIT.values(), *RUFF.values()}:
        assert pillars_of(cwe)
        assert name_of(cwe)


def test_every_pillar_has_rules_and_observations(tree: Path) -> None:
    done = review([tree])
    assert set(done.examined) == set(done.observations) == set(PILLARS)
    assert all(seen.sites for seen in done.examined.values())


@pytest.mark.parametrize(
    ("cwe", "pillars"), [(367, (691,)), (459, (664,)), (460, (664, 703)), (187, (697,)), (185, (697,)), (754, (703,)), (682, (682,))]
)
def test_a_weakness_lies_below_its_pillars(cwe: int, pillars: tuple[int, ...]) -> None:
    assert pillars_of(cwe) == pillars


def test_a_finding_says_where_and_below_what(tree: Path) -> None:
    (found,) = review([tree]).open
    assert (found.path, found.line, found.rule, found.function) == ("tree/bad.py", 3, "made-but-not-finished", "make")
    assert (found.cwe, found.pillar, found.also) == (460, 664, (703,))


def test_a_fingerprint_survives_lines_above(tree: Path) -> None:
    (before,) = review([tree]).open
    (tree / "bad.py").write_text(f"import os\n\n\n{BAD}", encoding="utf-8")
    (after,) = review([tree]).open
    assert after.line == before.line + 3
    assert after.fingerprint == before.fingerprint


def test_equal_lines_have_fingerprints_of_their_own(tree: Path) -> None:
    (tree / "bad.py").write_text("def wait(job):\n    return eval(job)\n    return eval(job)\n", encoding="utf-8")
    found = [f for f in review([tree]).open if f.rule == "text-that-is-run"]
    assert len({f.fingerprint for f in found}) == 2


def test_a_file_that_is_no_python_makes_it_fail(tree: Path) -> None:
    (tree / "bad.py").write_text("def (:\n", encoding="utf-8")
    done = review([tree])
    assert [u.path for u in done.unscanned] == ["tree/bad.py"]
    assert not done.passes
    assert "**Not scanned:** `tree/bad.py`" in markdown.write(done, "T")


def test_a_tree_that_is_not_there_makes_it_fail(tmp_path: Path) -> None:
    assert not review([tmp_path / "nowhere"]).passes


def test_a_waived_finding_passes_and_keeps_its_reason(tree: Path) -> None:
    (found,) = review([tree]).open
    done = review([tree], [waiver(found)], today=DAY)
    assert done.passes
    assert "it has to be so" in markdown.write(done, "T")


def test_an_expired_waiver_fails(tree: Path) -> None:
    (found,) = review([tree]).open
    done = review([tree], [waiver(found)], today=DAY + datetime.timedelta(days=1))
    assert done.open == (found,)
    assert done.wrong_waivers == ("expired on 2030-01-01: made-but-not-finished in tree/bad.py",)


def test_a_waiver_that_matches_nothing_fails(tree: Path) -> None:
    (found,) = review([tree]).open
    (tree / "bad.py").write_text("", encoding="utf-8")
    done = review([tree], [waiver(found)], today=DAY)
    assert done.open == ()
    assert not done.passes


@pytest.mark.parametrize("text", [
    "[[waiver]]\nrule = 'a'\n",
    "[[waiver]]\nrule = 'a'\nfile = 'b'\nfingerprint = 'c'\nreason = ' '\nuntil = 2030-01-01\n",
    "[[waiver]]\nrule = 'a'\nfile = 'b'\nfingerprint = 'c'\nreason = 'd'\nuntil = '2030-01-01'\n",
    "not toml",
])
def test_waivers_of_another_form_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "waivers.toml").write_text(text, encoding="utf-8")
    with pytest.raises(waivers.BadWaivers):
        waivers.read(tmp_path / "waivers.toml")


def test_sarif_has_the_structure_of_2_1_0(tree: Path) -> None:
    (tree / "also.py").write_text("breakpoint()\n", encoding="utf-8")
    first, *_ = review([tree]).open
    done: Review = review([tree], [waiver(first)], today=DAY)
    log = json.loads(machine.as_sarif(done))
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert run["invocations"] == [{"executionSuccessful": True, "toolExecutionNotifications": []}]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        place = result["locations"][0]["physicalLocation"]
        assert place["region"]["startLine"] >= 1
        assert not place["artifactLocation"]["uri"].startswith("/")
        assert result["message"]["text"]
    assert sum("suppressions" in result for result in run["results"]) == 1


def test_json_has_every_pillar_and_finding(tree: Path) -> None:
    told = json.loads(machine.as_json(review([tree])))
    assert set(told["pillars"]) == {str(pillar) for pillar in PILLARS}
    assert [(f["path"], f["pillar"], f["also"]) for f in told["findings"]] == [("tree/bad.py", 664, [703])]


def test_marked_tests_are_evidence(tree: Path, tmp_path: Path) -> None:
    tests = tmp_path / "tests"
    tests.mkdir()
    (tests / "test_it.py").write_text(
        "import pytest\n\n\n@pytest.mark.weakness(367)\ndef test_once():\n    assert True\n", encoding="utf-8"
    )
    (found,) = review([tree], tests=[tests]).evidence
    assert (found.cwe, found.test) == (367, "tests/test_it.py::test_once")


def test_a_mark_of_what_is_no_weakness_is_refused(tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "test_it.py").write_text("@pytest.mark.weakness(4711)\ndef test_once(): ...\n", encoding="utf-8")
    assert ended_by([str(tree), "--tests", str(tmp_path)]) == 2
    assert "test_once is marked with 4711" in capsys.readouterr().err


ROUTES = """\
ROUTES = [
    Route("GET", "/servers", index, READER),
    Route("POST", "/servers", create, MEMBER),
    Route("DELETE", "/servers/{id}", delete),
    Route("POST", "/tokens", issue, public=True),
]
"""


def test_routes_of_a_table_are_judged_and_told_by_their_check(tree: Path) -> None:
    (tree / "bad.py").write_text(ROUTES, encoding="utf-8")
    done = review([tree])
    assert [f.message for f in done.open if f.rule == "route-without-check"] == ["delete() changes something and names no check"]
    assert {(o.what, *(p.function for p in o.places)) for o in done.observations[284]} == {
        ("routes checked by READER", "index"), ("routes checked by MEMBER", "create"),
        ("routes whose table names no check", "delete"), ("routes open to everybody", "issue"),
    }


LOCKED = "class Store:\n    def save(self):\n        with self._lock:\n            self._file.write_text(self._text)\n"


def test_what_is_observed_stands_under_its_function_with_what_is_special_there(tree: Path) -> None:
    (tree / "bad.py").write_text(LOCKED, encoding="utf-8")
    told = "- **locks held over what may take long** (1): `bad`: `Store.save` (`self._lock: write_text`)"
    assert told in markdown.write(review([tree]), "T").splitlines()


def test_what_is_made_is_told_with_what_gives_it_back(tree: Path) -> None:
    (tree / "bad.py").write_text("def create_disk(): ...\ndef delete_disk(): ...\ndef create_port(): ...\n", encoding="utf-8")
    told = {o.what: [(p.function, p.note) for p in o.places] for o in review([tree]).observations[664]}
    assert told == {
        "made or taken, and given back": [("create_disk", "delete_disk")],
        "made or taken, with nothing of a like name to give it back": [("create_port", "")],
    }


@pytest.mark.parametrize(("number", "told"), [
    (0, "0"), (10, "10"), (11, "over 10"), (19, "over 10"), (20, "over 20"), (99, "over 50"), (4999, "over 2000"), (36_810, "over 20000"),
])
def test_figures_change_seldom(number: int, told: str) -> None:
    assert markdown.about(number) == told


def test_a_report_without_open_findings_does_not_change_with_a_line(tree: Path) -> None:
    (tree / "bad.py").write_text(BAD + "\n" * 20, encoding="utf-8")
    (found,) = review([tree]).open
    before = markdown.write(review([tree], [waiver(found)], today=DAY), "T")
    assert before == markdown.write(review([tree], [waiver(found)], today=DAY), "T")
    (tree / "bad.py").write_text("# a line more\n" + BAD + "\n" * 20, encoding="utf-8")
    assert before == markdown.write(review([tree], [waiver(found)], today=DAY), "T")


def test_the_figures_of_the_corpus_are_printed_by_pillar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for half in ("seen", "unseen"):
        (tmp_path / half).mkdir()
        text = f"=== bad CWE-460 made, not finished\n{BAD}=== good\nx = 1\n=== bad CWE-478 nothing to see\nx = 1\n=== good\neval(x)\n"
        (tmp_path / half / "cwe-664.txt").write_text(text, encoding="utf-8")
    assert ended_by(["--corpus", str(tmp_path), "--names"]) == 0
    told = capsys.readouterr().out
    assert told.count("CWE-664 Lifetime of resources                          1 pairs  recall 100.0%  false hits   0.0%") == 2
    assert told.count("all                                                    2 pairs  recall  50.0%  false hits  50.0%") == 2
    assert told.count("missed cwe-664-2 CWE-478 nothing to see") == 1


def test_it_finds_nothing_in_itself() -> None:
    assert review([Path(markdown.__file__).parents[1]]).open == ()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(["--help"])
    assert ended.value.code == 0
    assert "--waivers" in capsys.readouterr().out


def test_check_fails_on_a_stale_report_and_writes_nothing(tree: Path, tmp_path: Path) -> None:
    (tree / "bad.py").write_text("", encoding="utf-8")
    report = tmp_path / "review.md"
    arguments = [str(tree), "--markdown", str(report)]
    assert ended_by([*arguments, "--check"]) == 1
    assert not report.exists()
    assert ended_by(arguments) == 0
    assert ended_by([*arguments, "--check"]) == 0


def test_a_finding_ends_the_command_with_one(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended_by([str(tree)]) == 1
    assert "tree/bad.py:3: CWE-460" in capsys.readouterr().err


def ended_by(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code
