"""CWE-697, incorrect comparison: each thing that is compared has one form, and nothing but its grammar is taken for it."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lamina.api.compute.answers import as_bool
from lamina.api.routing import Version
from lamina.hosts.join_tokens import JoinToken
from lamina.model import ids, requests, resources
from lamina.model.errors import BadRequest
from lamina.model.flavors import Flavor
from lamina.model.ids import PciAddress
from lamina.model.policies import PolicyName, parse_policy
from lamina.model.queueing import parse_wait
from lamina.store.tokens import token_hash
from tests.faults.desk import Desk
from tests.faults.world import ONE, World
from tests.pillars import sources

pytestmark = pytest.mark.weakness(697)

HEX = "[0-9a-fA-F]"


def _same(parse: Callable[[str], object]) -> Callable[[str], str]:
    return lambda text: str(parse(text))


def _flavor(**changes: object) -> Flavor:
    return dataclasses.replace(Flavor(id="f", name="f", vcpus=1, memory_mb=1, disk_gb=0), **changes).checked()  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, slots=True)
class Canonical:
    """A kind of value: what it is in words of another regular expression, and what parsing one and writing it again gives."""

    grammar: str
    again: Callable[[str], str]
    #: the one form of a text that is of the grammar
    canonical: Callable[[str], str] = str
    #: what else a text of the grammar has to be
    within: Callable[[str], bool] = lambda text: True


KINDS = {
    "PCI address": Canonical(rf"{HEX}{{4}}:{HEX}{{2}}:[01]{HEX}\.[0-7]", _same(PciAddress.parse), str.lower),
    "node device": Canonical(
        rf"pci_{HEX}{{4}}_{HEX}{{2}}_[01]{HEX}_[0-7]", lambda text: PciAddress.parse_node_device(text).node_device, str.lower
    ),
    "uuid": Canonical(
        rf"{HEX}{{8}}-?{HEX}{{4}}-?{HEX}{{4}}-?{HEX}{{4}}-?{HEX}{{12}}",
        ids.parse_uuid,
        lambda text: re.sub(r"(.{8})(.{4})(.{4})(.{4})(.{12})", r"\1-\2-\3-\4-\5", text.replace("-", "").lower()),
    ),
    "host name": Canonical(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,253}[A-Za-z0-9])?", ids.parse_host_name),
    "resource class": Canonical(r"[A-Z0-9_]{1,255}", resources.parse_resource_class),
    "custom resource class": Canonical(r"CUSTOM_[A-Z0-9_]{1,248}", resources.parse_custom_class),
    "class of a GPU": Canonical(r"VGPU|CUSTOM_[A-Z0-9_]{1,248}", resources.parse_vgpu_class),
    "trait": Canonical(r"[A-Z0-9_]{1,255}", resources.parse_trait),
    "custom trait": Canonical(r"CUSTOM_[A-Z0-9_]{1,248}", resources.parse_custom_trait),
    "microversion": Canonical(
        r"[0-9]{1,7}\.[0-9]{1,7}",
        _same(Version.parse),
        lambda text: ".".join(str(int(part)) for part in text.split(".")),
        lambda text: len(text) <= 9,
    ),
    "amount": Canonical(
        r"[0-9]{1,10}",
        lambda text: str(requests.parse_amount(text, "amount")),
        lambda text: str(int(text)),
        lambda text: 1 <= int(text) <= 2**31 - 1,
    ),
    "wait": Canonical(
        r"[0-9]{1,9}",
        lambda text: str(int(parse_wait(text, "wait"))),
        lambda text: str(int(text)),
        lambda text: 1 <= int(text) <= 30 * 24 * 60 * 60,
    ),
    "policy": Canonical("|".join(PolicyName), _same(lambda text: parse_policy(text, "policy"))),
    "join token": Canonical(r"lamina-join-1\.[A-Za-z0-9_-]{43}\.[0-9a-f]{64}", lambda text: JoinToken.parse(text).text()),
    "id of a flavor": Canonical(r"[a-zA-Z0-9._-]([a-zA-Z0-9. _-]{0,253}[a-zA-Z0-9._-])?", lambda text: _flavor(id=text).id),
    "key of an extra spec": Canonical(
        # behind a letter, so that none is of the keys that have a meaning
        r"([a-zA-Z0-9:. _-]{0,253}[a-zA-Z0-9:._-])?",
        lambda text: next(iter(_flavor(extra_specs={f"x{text}": "x"}).extra_specs))[1:],
    ),
}
#: what careless comparisons let through: ends of lines, other scripts' digits, look-alikes, characters whose case folds to ASCII
NASTY = "\n\r\0\t \u00a0\u2028\ufeff.:-_/x0123456789abcdefABCDEFzZ\u0661\uff11\u00b2\u2460\u212a\u0130\u0131\u017f\u00c5\ud83d"


@st.composite
def _nearly(draw: st.DrawFn, grammar: str) -> str:
    """A text of the grammar with at most two characters put in, taken out or replaced."""
    text = draw(st.from_regex(grammar, fullmatch=True, alphabet=st.characters(max_codepoint=126)))
    for _ in range(draw(st.integers(0, 2))):
        at, end = draw(st.integers(0, len(text))), draw(st.integers(0, 1))
        text = text[:at] + draw(st.sampled_from(["", *NASTY])) + text[at + end :]
    return text


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@pytest.mark.weakness(185)
def test_exactly_the_grammar_is_taken_and_what_is_taken_has_one_form(kind: str, data: st.DataObject) -> None:
    this = KINDS[kind]
    text = data.draw(_nearly(this.grammar))
    # a token comes from a terminal, with the end of its line
    stripped = text.strip() if kind == "join token" else text
    if re.match(rf"(?:{this.grammar})\Z", stripped, re.ASCII) is None or not this.within(stripped):
        with pytest.raises(BadRequest):
            this.again(text)
    else:
        written = this.again(text)
        assert written == this.canonical(stripped)
        assert this.again(written) == written, "what was written is read as the same"


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"join token", "key of an extra spec"}))
@pytest.mark.parametrize("tail", ["\n", "\r", "\0", " ", "\u00a0", "\u2028", "\n\n"])
@pytest.mark.weakness(185)
def test_nothing_may_follow(kind: str, tail: str) -> None:
    good = {
        "PCI address": "0000:06:00.0",
        "node device": "pci_0000_06_00_0",
        "uuid": "6f0c52de-6a3e-4d0e-9e55-1a1c4e9f7a10",
        "microversion": "2.96",
        "amount": "1",
        "wait": "1",
        "policy": "pack",
        "class of a GPU": "VGPU",
    }.get(kind, "CUSTOM_A")
    assert KINDS[kind].again(good) == good
    with pytest.raises(BadRequest):
        KINDS[kind].again(good + tail)
    with pytest.raises(BadRequest):
        KINDS[kind].again(tail + good)


@given(st.tuples(*[st.integers(0, 9999)] * 2), st.tuples(*[st.integers(0, 9999)] * 2))
@example((2, 9), (2, 10))
def test_versions_are_compared_as_numbers(one: tuple[int, int], other: tuple[int, int]) -> None:
    """As words 2.9 would come after 2.10."""
    first, second = (Version.parse(f"{major}.{minor}") for major, minor in (one, other))
    assert (first < second, first == second) == (one < other, one == other)


YES = {"1", "t", "true", "on", "y", "yes"}
NO = {"0", "f", "false", "off", "n", "no"}


@given(st.sampled_from(sorted(YES | NO)).flatmap(lambda word: st.sampled_from([word, word.upper(), word.title(), f" {word}\t"])))
def test_the_word_false_is_not_true(word: str) -> None:
    assert as_bool(word, "flag") is (word.strip().lower() in YES)


@given(st.text(max_size=6) | st.sampled_from(["", "None", "null", "-1", "2", "o\ufb00", "fa\u017fe", "tru\u0435"]))
def test_no_other_word_is_a_truth_value(word: str) -> None:
    if word.strip().lower() in YES | NO:
        assert as_bool(word, "flag") in (True, False)
    else:
        with pytest.raises(BadRequest, match="neither true nor false"):
            as_bool(word, "flag")


def test_a_mac_address_has_one_form() -> None:
    """Drawn in lower case, as libvirt and the kernel write it back."""
    assert all(re.fullmatch(r"fa:16:3e(:[0-9a-f]{2}){3}", ids.new_mac()) for _ in range(1000))


@given(st.text(min_size=1, max_size=300))
def test_the_trait_of_a_type_is_always_one_that_placement_takes(name: str) -> None:
    trait = resources.type_trait(name)
    assert re.fullmatch(r"CUSTOM_[A-Z0-9_]*", trait)
    assert len(trait) <= resources.MOST_NAME
    assert trait == resources.type_trait(name.lower()) or not name.isascii()


_NAMES = st.from_regex(r"node(_1|_pci|_pci_0000_81_00_0|1)?", fullmatch=True)
_ADDRESSES = st.builds(PciAddress, st.integers(0, 1), st.integers(0x80, 0x82), st.integers(0, 1), st.integers(0, 1))


@given(st.tuples(_NAMES, _ADDRESSES), st.tuples(_NAMES, _ADDRESSES))
@pytest.mark.weakness(187)
def test_providers_of_hosts_whose_names_begin_alike_are_told_apart(one: tuple[str, PciAddress], other: tuple[str, PciAddress]) -> None:
    assert (ids.gpu_provider_id(*one) == ids.gpu_provider_id(*other)) == (one == other)
    assert (f"{one[0]}_{one[1].node_device}" == f"{other[0]}_{other[1].node_device}") == (one == other)
    assert len({ids.host_provider_id(one[0]), ids.gpu_provider_id(*one), ids.network_id(one[0])}) == 3


@pytest.mark.weakness(187)
def test_hosts_whose_names_begin_alike_keep_their_vgpus_apart(desk: Desk) -> None:
    """``node`` and ``node_1``: what is given on the one is not taken for the other's."""
    world = World.on(desk, "mdev")
    renamed = {"host1": "node", "host2": "node_1"}
    hosts = tuple(dataclasses.replace(host, name=renamed[host.name]) for host in world.fleet.hosts)
    world.fleet = dataclasses.replace(world.fleet, hosts=hosts)
    desk.put_back()
    world.begin()
    server = world.created(ONE, host="node_1")
    assert {name.partition("_pci_")[0] for name in world.free()} == {"node_1"}
    assert [v.host for v in world.vgpus(server.id)] == ["node_1"]
    world.check()


# ------------------------------------------------------------------------------------------------ rules for every line

#: names of values that nobody may learn by how long a comparison takes
SECRET = re.compile(r"(?:^|_)(?:secret|password|token|digest|hmac|signature|hash|hash_|fingerprint)$")
#: modules whose comparisons of such names give nothing away
NOT_SECRET = {
    "hosts/certificates.py": "fingerprints of certificates, which everybody may see",
    "hosts/joining.py": "the fingerprint of the authority's certificate, which everybody may see",
}


def _named(node: ast.expr) -> str:
    """The last name of an expression, if it has one."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


@pytest.mark.weakness(208)
def test_no_secret_is_compared_by_how_long_it_is_alike() -> None:
    """``==`` tells by its time how much was right. Columns of the database are compared there, by what a slow hash has made of it."""
    found = []
    for module, compare in sources.nodes(ast.Compare):
        if not any(isinstance(op, ast.Eq | ast.NotEq) for op in compare.ops) or module.name in NOT_SECRET:
            continue
        sides = [compare.left, *compare.comparators]
        constant = any(isinstance(side, ast.Constant) for side in sides)
        column = any(isinstance(side, ast.Attribute) and ast.unparse(side.value).endswith(".c") for side in sides)
        if any(SECRET.search(_named(side)) for side in sides) and not constant and not column:
            found.append(f"{module.name}:{compare.lineno}: {ast.unparse(compare)}")
    assert found == []


def test_the_exceptions_are_still_needed() -> None:
    names = {module.name for module in sources.modules()}
    assert NOT_SECRET.keys() <= names


#: beginnings that are no part of an identifier: (module, what is asked) -> why
BEGINNINGS = {
    ("api/application.py", "path.startswith(prefix + '/')"): "a room's path ends at a slash",
    ("api/compute/server_views.py", "key.startswith(_NOT_AFTER_CHANGE)"): "keys of an answer of ours",
    ("api/placement/traits.py", "one.startswith(rest)"): "the client asks for names that begin so",
    ("model/aggregates.py", "key.removeprefix(SCOPE)"): "it ends with a colon",
    ("model/aggregates.py", "key.startswith(SCOPE)"): "it ends with a colon",
    ("model/attached.py", "key.removeprefix(start)"): "it ends with a colon",
    ("model/attached.py", "key.startswith(start)"): "it ends with a colon",
    ("model/limits.py", "key.startswith(_TYPE)"): "a word of ours, which ends with a separator",
    ("model/limits.py", "text.startswith(_TYPE)"): "a word of ours, which ends with a separator",
    ("model/limits.py", "text.removeprefix(_TYPE)"): "a word of ours, which ends with a separator",
    ("model/limits.py", "text.removeprefix(_CLASS)"): "a word of ours, which ends with a separator",
    ("model/limits.py", "key.startswith(_CLASS)"): "a word of ours, which ends with a separator",
    ("model/limits.py", "text.startswith(_CLASS)"): "a word of ours, which ends with a separator",
    ("store/aggregates.py", "key.startswith(rules.SCOPE)"): "it ends with a colon",
    ("agent/simulated/kernel.py", "path.startswith(_FUNCTIONS)"): "a path of the simulated kernel, a whole folder",
    ("agent/simulated/kernel.py", "path.removeprefix(_FUNCTIONS)"): "a path of the simulated kernel, a whole folder",
}


@pytest.mark.weakness(187)
def test_no_identifier_is_told_by_how_it_begins() -> None:
    """``node`` is the beginning of ``node_1``. A beginning that is written out, or one that ends with a separator, is a word of ours."""
    asked = {
        (module.name, ast.unparse(call))
        for module, call in sources.calls("startswith", "endswith", "removeprefix", "removesuffix")
        if not isinstance(call.args[0], ast.Constant)
    }
    assert asked == BEGINNINGS.keys()


@pytest.mark.weakness(187)
def test_no_providers_name_is_taken_apart() -> None:
    apart = []
    for module, call in sources.calls("split", "rsplit", "partition", "rpartition", "find", "index"):
        if call.args and isinstance(call.args[0], ast.Constant) and "pci" in str(call.args[0].value):
            apart.append(f"{module.name}:{call.lineno}")
    assert apart == []


#: `search` and `match` look for a part of a text: (module, where) -> why
PARTS = {
    ("cli/checks/installation.py", "re.match('[0-9]+(?:\\\\.[0-9]+)*', version)"): "the leading numbers of a version are what is asked",
}


@pytest.mark.weakness(185)
def test_expressions_are_held_against_the_whole_text() -> None:
    """``$`` lets a newline follow, and ``match`` anything; ``search`` is for the parts of a text that is nobody's name."""
    asked = set()
    for module, call in sources.calls("match", "search"):
        on = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if on == "re" or on.lstrip("_").isupper():
            asked.add((module.name, ast.unparse(call)))
    dollars = [
        f"{module.name}:{call.lineno}"
        for module, call in sources.calls("compile", "fullmatch")
        if call.args
        and isinstance(call.args[0], ast.Constant)
        and re.search(r"(?<!\\)\$", str(call.args[0].value))
        and "re." in ast.unparse(call)
    ]
    assert {module for module, _ in asked} <= {module for module, _ in PARTS} | SEARCHING.keys()
    assert [at for at in dollars if not at.startswith("api/placement/schema_words.py:")] == []


#: modules that look for something within a text that others have written
SEARCHING = {
    "agent/frameworks/mdev.py": "figures within a driver's description",
    "store/reading.py": "the column that a decoder's error names",
    "api/compute/answers.py": "an escaped NUL anywhere in a body",
    "api/placement/schema_words.py": "parts of a message of the library that checks bodies",
    "api/openapi.py": "words of our own sources, for a document",
    "model/catalog.py": "the entries of a list in a file of ours",
}


def test_what_is_kept_of_a_token_tells_tokens_apart_and_nothing_else() -> None:
    """A token is found by its hash, so that no comparison goes along a secret."""
    assert token_hash("a") != token_hash("A") != token_hash("a\n")
    assert re.fullmatch(r"[0-9a-f]{64}", token_hash("a"))


def test_the_rules_can_find_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = "def f(secret, given, name, root):\n    return secret == given and name.startswith(root + '_') and name.startswith(root)\n"
    monkeypatch.setattr(sources, "modules", lambda: (sources.Module("bad.py", bad, ast.parse(bad)),))
    with pytest.raises(AssertionError, match="secret == given"):
        test_no_secret_is_compared_by_how_long_it_is_alike()
    with pytest.raises(AssertionError):
        test_no_identifier_is_told_by_how_it_begins()
