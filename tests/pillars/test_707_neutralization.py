"""CWE-707, improper neutralization: whatever stands in a string, what is built of it has the structure that was meant.

The proof is always the same: build, parse what was built with a parser of somebody else's, and compare.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import sqlalchemy as sa
import structlog
from hypothesis import assume, given
from hypothesis import strategies as st

from lamina.agent.commands import run
from lamina.agent.depot import LocalDepot
from lamina.agent.hypervisor import Device
from lamina.agent.hypervisors import domain_xml
from lamina.agent.hypervisors.disks import Disks
from lamina.agent.hypervisors.domain_xml import Frame
from lamina.agent.sysfs import LocalSysfs, join
from lamina.api.compute import servers as compute_servers
from lamina.cli import logs
from lamina.model import ids
from lamina.model.errors import BadRequest, HypervisorError
from lamina.model.gpus import Framework
from lamina.model.hosts import DomainSpec, ImageSource, Nic
from tests.pillars import sources

pytestmark = pytest.mark.weakness(707)

#: what means something to a parser of XML, to a shell, a path, SQL, a log or a header
MEANT = "<>&\"'`$;|\\/.%_-\n\r\t\0 \x1b\x7f\x85\u2028]]>\ufffe\ud800a"
ANY = st.text(st.sampled_from(MEANT) | st.characters(), min_size=1, max_size=30) | st.sampled_from(
    [
        "</name><devices>",
        "]]>",
        "<!--",
        "&amp;",
        "&#10;",
        "<!DOCTYPE x>",
        "../../etc",
        "'; DROP TABLE servers; --",
        "$(id)",
        "a\r\nSet-Cookie: x",
    ]
)
MDEV = Device(ids.new_uuid(), Framework.MDEV, ids.new_uuid())
SERVER = ids.new_uuid()


# ------------------------------------------------------------------------------------------------ XML


def _described(text: dict[str, str]) -> str:
    """A domain with a string of somebody else's in every place that takes one."""
    spec = DomainSpec(SERVER, text["name"], 1, 512, 1, (), running=True, nics=(Nic("net", text["mac"]), Nic("net2", text["mac"])))
    frame = Frame(
        virt_type=text["virt"],
        networks={"net": ("bridge", text["bridge"]), "net2": ("network", text["network"])},
        console_log=Path("/state") / text["log"].replace("\0", "0"),
        disk=Path("/state") / text["disk"].replace("\0", "0"),
        config_drive=Path("/state") / text["drive"].replace("\0", "0"),
        vnc=text["vnc"],
        numa=(0, text["cpus"]),
    )
    devices = [MDEV, Device(text["uuid"], Framework.MDEV, text["handle"])]
    return domain_xml.definition(spec, devices, frame)


PLACES = ("name", "mac", "virt", "bridge", "network", "log", "disk", "drive", "vnc", "cpus", "uuid", "handle")


def _shape(element: ET.Element) -> tuple[object, ...]:
    return element.tag, tuple(sorted(element.attrib)), tuple(_shape(child) for child in element)


def _strings(element: ET.Element) -> list[str]:
    return [text for each in element.iter() for text in ([each.text] if each.text else []) + list(each.attrib.values())]


REFERENCE = ET.fromstring(_described(dict.fromkeys(PLACES, "x")))  # noqa: S314


@given(st.fixed_dictionaries(dict.fromkeys(PLACES, ANY)))
@pytest.mark.weakness(91)
def test_a_domain_has_the_same_elements_whatever_its_strings_are(text: dict[str, str]) -> None:
    try:
        xml = _described(text)
    except HypervisorError:
        assert any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF or ord(c) >= 0xFFFE for c in "".join(text.values())), "refused for nothing"
        return
    parsed = ET.fromstring(xml)  # noqa: S314
    assert _shape(parsed) == _shape(REFERENCE)
    for given_in, found in ((text["name"], parsed.findtext("name")), (text["cpus"], parsed.find("vcpu").get("cpuset"))):  # type: ignore[union-attr]
        # a parser reads every end of a line as one newline (XML 1.0, 2.11)
        assert (found or "").replace("\r\n", "\n").replace("\r", "\n") == given_in.replace("\r\n", "\n").replace("\r", "\n")
    assert domain_xml.read(xml).vgpus[text["uuid"]] == text["handle"]
    assert domain_xml.hostdevs(xml).keys() == {MDEV.handle, text["handle"]}
    assert domain_xml.read(xml).ours


@given(ANY, st.integers(0, 9))
@pytest.mark.weakness(91)
def test_a_device_that_is_attached_is_one_element(handle: str, number: int) -> None:
    try:
        xml = domain_xml.hostdev(Device(SERVER, Framework.MDEV, handle), number)
    except HypervisorError:
        return
    parsed = ET.fromstring(xml)  # noqa: S314
    assert _shape(parsed) == _shape(ET.fromstring(domain_xml.hostdev(MDEV, number)))  # noqa: S314
    assert parsed.find("source/address").get("uuid") == handle  # type: ignore[union-attr]


@given(ANY, ANY)
@pytest.mark.weakness(91)
def test_what_is_copied_of_a_domain_is_one_disk(disk: str, into: str) -> None:
    assume("\0" not in into)
    try:
        xml = domain_xml.backup([disk], Path("/state") / into)
    except HypervisorError:
        return
    parsed = ET.fromstring(xml)  # noqa: S314
    assert [each.get("name") for each in parsed.iter("disk")] == [disk]
    assert parsed.find("disks/disk/target").get("file") == str(Path("/state") / into)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "xml",
    [
        '<!DOCTYPE d [<!ENTITY a "b">]><domain>&a;</domain>',
        '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]><domain><uuid>&a;</uuid></domain>',
        '<!DOCTYPE d [<!ENTITY % a SYSTEM "http://127.0.0.1:1/x"> %a;]><domain/>',
        '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><domain>&b;</domain>',
        "<domain>" + "<a>" * 20_000,
    ],
    ids=["entity", "file", "parameter entity", "laughs", "deep"],
)
@pytest.mark.weakness(611)
def test_what_libvirt_says_is_read_without_entities(xml: str) -> None:
    for read in (domain_xml.read, domain_xml.hostdevs, domain_xml.own_disks, lambda text: domain_xml.moved(text, text)):
        with pytest.raises(HypervisorError):
            read(xml)


def test_xml_is_built_as_trees_and_nowhere_as_text() -> None:
    written = [
        f"{module.name}:{node.lineno}"
        for module, node in sources.nodes(ast.JoinedStr)
        if any(isinstance(part, ast.Constant) and re.search(r"</?[a-z]+[ />]", str(part.value)) for part in node.values)
    ]
    # pages for people, whose values are escaped there
    assert [at for at in written if not at.startswith(("cli/pictures.py", "api/dashboard"))] == []


# ------------------------------------------------------------------------------------------------ paths


@given(st.lists(ANY | st.sampled_from(["..", ".", "", "a"]), min_size=1, max_size=4))
@pytest.mark.weakness(22)
def test_a_path_of_sysfs_stays_below_its_first_part(parts: list[str]) -> None:
    try:
        path = join("/sys/class", *parts)
    except OSError:
        assert any(part in ("", ".", "..") or set("/\0") & set(part) for part in parts)
        return
    assert os.path.normpath(path) == path
    assert path.split("/")[1:] == ["sys", "class", *parts]


@pytest.fixture
def kernel(tmp_path: Path) -> LocalSysfs:
    """A prepared tree with links as the kernel has them, and with some that lead out."""
    devices = tmp_path / "root/sys/devices/pci0000:00/0000:81:00.0"
    devices.mkdir(parents=True)
    (devices / "vendor").write_text("0x10de\n")
    (tmp_path / "root/sys/bus").mkdir()
    (tmp_path / "root/sys/bus/ok").symlink_to("../devices/pci0000:00/0000:81:00.0")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/vendor").write_text("secret")
    (tmp_path / "root/outside").mkdir()
    (tmp_path / "root/outside/vendor").write_text("secret")
    for name, target in {"absolute": tmp_path / "outside", "relative": Path("../../../outside"), "beside": Path("../../outside")}.items():
        (tmp_path / "root/sys/bus" / name).symlink_to(target)
    (devices / "file").symlink_to(tmp_path / "outside/vendor")
    return LocalSysfs(tmp_path / "root")


def test_links_of_the_kernel_are_followed(kernel: LocalSysfs) -> None:
    assert kernel.read("/sys/bus/ok/vendor") == "0x10de\n"
    assert kernel.link("/sys/bus/ok") == "0000:81:00.0"
    assert kernel.list("/sys/bus/ok") == ["file", "vendor"]


@pytest.mark.parametrize("way", ["bus/absolute", "bus/relative", "bus/beside", "../outside"])
@pytest.mark.weakness(59)
def test_no_link_leads_out_of_sysfs(kernel: LocalSysfs, way: str, tmp_path: Path) -> None:
    for act in (kernel.read, lambda path: kernel.write(path, "x")):
        with pytest.raises(PermissionError):
            act(f"/sys/{way}/vendor")
    with pytest.raises(PermissionError):
        kernel.list(f"/sys/{way}")
    assert not kernel.exists(f"/sys/{way}/vendor")
    assert {path.read_text() for path in tmp_path.glob("**/outside/vendor")} == {"secret"}


@pytest.mark.weakness(59)
def test_nor_does_the_link_of_a_file(kernel: LocalSysfs) -> None:
    with pytest.raises(PermissionError):
        kernel.write("/sys/bus/ok/file", "x")
    assert not kernel.exists("/sys/bus/ok/file")


@given(ANY)
@pytest.mark.weakness(22)
def test_a_file_of_a_server_is_in_its_own_folder_or_nowhere(text: str) -> None:
    disks = Disks(Path("/state"), images=None)  # type: ignore[arg-type]
    for path in (disks.folder, disks.disk, disks.rescue_disk, disks.console_log, disks.config_drive):
        with pytest.raises(BadRequest):
            path(text)
        assert path(SERVER.upper()).is_relative_to(f"/state/disks/{SERVER}")


@given(ANY)
@pytest.mark.weakness(22)
def test_nothing_goes_through_the_depot_under_another_name_than_a_servers(text: str) -> None:
    for act in (LocalDepot(Path("/nowhere")).bring, LocalDepot(Path("/nowhere")).fetch):
        with pytest.raises(BadRequest):
            act(text, Path("/dev/null"))


@given(ANY)
@pytest.mark.weakness(22)
def test_an_image_is_kept_under_a_checksum_or_not_at_all(text: str) -> None:
    def never(argv: object, patience: float) -> str:
        raise AssertionError(f"{argv} was run")

    disks = Disks(Path("/nowhere"), images=None, program=never)  # type: ignore[arg-type]
    with pytest.raises(HypervisorError), disks._image(ImageSource(SERVER, text, 1, "raw")):
        pass


# ------------------------------------------------------------------------------------------------ SQL


@pytest.fixture(scope="module")
def names() -> sa.Engine:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as tx:
        tx.exec_driver_sql("CREATE TABLE servers (name TEXT)")
    return engine


NAMES = sa.Table("servers", sa.MetaData(), sa.Column("name", sa.Text))


@given(st.lists(st.text(st.sampled_from("%_/\\'\";-a.*^$ \n"), max_size=6), min_size=1, max_size=6, unique=True), st.data())
@pytest.mark.weakness(89)
def test_a_name_that_is_searched_for_is_found_as_it_stands(names: sa.Engine, kept: list[str], data: st.DataObject) -> None:
    """What means something in LIKE stands for itself; what means something in SQL does so too."""
    part = data.draw(st.text(st.sampled_from("%_/\\'\";-a"), min_size=1, max_size=3))
    with names.begin() as tx:
        tx.execute(sa.delete(NAMES))
        tx.execute(sa.insert(NAMES), [{"name": name} for name in kept])
        found = set(tx.scalars(sa.select(NAMES.c.name).where(compute_servers._like(NAMES.c.name, part))))
    assert found == {name for name in kept if part in name}


@pytest.mark.weakness(89)
def test_no_statement_is_made_of_text() -> None:
    """Statements are SQLAlchemy's; the few that are written out have nothing put into them."""
    made = []
    for module, call in sources.calls("text", "exec_driver_sql", "execute"):
        ours = ast.unparse(call.func) == "sa.text" or (isinstance(call.func, ast.Attribute) and call.func.attr != "text")
        if ours and call.args and isinstance(call.args[0], ast.JoinedStr | ast.BinOp):
            made.append(f"{module.name}:{call.lineno}")
    # words of our own, over a list that stands beside them
    assert sorted({at.partition(":")[0] for at in made}) == ["cli/own_postgres.py", "store/database.py"]
    assert len(made) == 2


# ------------------------------------------------------------------------------------------------ other programs

#: modules that begin other programs
STARTING = {
    "agent/commands.py",
    "cli/bench_fleet.py",
    "cli/instance.py",
    "cli/own_postgres.py",
}


@pytest.mark.weakness(78)
def test_no_shell_is_ever_asked() -> None:
    started = set()
    for module, call in sources.calls("run", "Popen", "call", "check_call", "check_output", "system", "popen", "execv", "execve", "spawnv"):
        on = ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""
        if on in ("subprocess", "os"):
            started.add(module.name)
            assert not any(keyword.arg == "shell" for keyword in call.keywords), f"{module.name}:{call.lineno}"
            assert not isinstance(call.args[0], ast.JoinedStr | ast.Constant), f"{module.name}:{call.lineno} runs a line of text"
    assert started == STARTING


@given(st.lists(ANY.filter(lambda text: "\0" not in text and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)), max_size=2))
@pytest.mark.weakness(78)
def test_an_argument_arrives_as_it_is(arguments: list[str]) -> None:
    said = run(("/usr/bin/printf", "%s\\n--\\n", *arguments))
    assert said == "".join(f"{argument}\n--\n" for argument in arguments or [""])


# ------------------------------------------------------------------------------------------------ logs

PAIR = re.compile(r'([A-Za-z_]+)=("(?:[^"\\]|\\.)*"|[^ "]*)')


@given(ANY, ANY)
@pytest.mark.weakness(117)
def test_an_event_is_one_line_of_the_log(event: str, why: str) -> None:
    """A caller's words can't pass for a line of ours, nor for another field."""
    before, written = structlog.get_config(), io.StringIO()
    try:
        logs.configure("info")
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(file=written))
        structlog.get_logger().info(event, why=why, code="lamina.bad_request")
    finally:
        structlog.configure(**before)
    (line,) = re.split(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", written.getvalue().removesuffix("\n"))
    assert [name for name, _ in PAIR.findall(line)] == ["timestamp", "level", "event", "why", "code"]
    assert not any(ord(c) < 32 or ord(c) == 127 for c in line), "an escape sequence would reach a terminal"


# ------------------------------------------------------------------------------------------------ everything at once


def _watched(tmp_path: Path, what: str) -> subprocess.CompletedProcess[str]:
    folder = tmp_path / "state"
    folder.mkdir()
    (tmp_path / "kept").write_text("x")
    command = (sys.executable, "-B", "-m", "tests.pillars.watched_story", str(folder), what)
    root = sources.ROOT.parents[1]
    # a library that finds extensions keeps what it found in the user's cache
    environment = (
        os.environ
        | {"XDG_CACHE_HOME": str(folder)}
        | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), str(root / "src"), os.environ.get("PYTHONPATH", "")])}
    )
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)


@pytest.mark.weakness(73)
def test_nothing_is_written_elsewhere_and_no_program_is_begun(tmp_path: Path) -> None:
    """Every kind of operation and the API, under a hook that refuses any other folder and any other program."""
    done = _watched(tmp_path, "stories")
    assert done.returncode == 0, done.stderr[-3000:]
    count = re.search(r"(\d+) stories, (\d+) changes of files looked at", done.stdout)
    assert count is not None
    assert (int(count[1]) > 50, int(count[2]) > 1000) == (True, True), count[0]
    assert (tmp_path / "kept").exists()


@pytest.mark.parametrize(("what", "told"), [("write", "elsewhere"), ("shell", "subprocess.Popen"), ("remove", "kept")])
def test_the_hook_would_notice(tmp_path: Path, what: str, told: str) -> None:
    done = _watched(tmp_path, what)
    assert done.returncode != 0
    assert "Forbidden" in done.stderr
    assert told in done.stderr
