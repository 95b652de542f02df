"""The files of deployment name commands, options and files that there are, and keep the server shut in.

No container engine and no systemd runs here: what they would say is checked by linters, as the page tells.
"""

import fnmatch
import json
import re
import shlex
import typing
from configparser import RawConfigParser
from functools import cache
from pathlib import Path

import pytest
import yaml
from generated import commands, parameters
from pages import ROOT, blocks_of

from bowerbird.cli.main import app
from bowerbird.cli.serving import DRAIN_S


@cache
def known() -> dict[str, set[str]]:
    """Return the options of every command; a plain yes-or-no of Typer has no value."""
    found = {}
    for name, command in commands(app):
        typed = " ".join(typed for typed, _, _ in parameters(command))
        found[name] = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", typed))
    return found


def check(words: typing.Sequence[str]) -> None:
    """Raise AssertionError unless a command and its options are the program's."""
    name = next((name for n in (3, 2) if (name := " ".join(words[:n])) in known()), None)
    assert name is not None, f"{' '.join(words[:3])}: there is no such command"
    options = {word for word in words if word.startswith("-")}
    assert options <= known()[name], f"{name} has no {', '.join(sorted(options - known()[name]))}"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and what follows each."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(one[0], one[1]) for line in lines if line for one in [line.split(maxsplit=1)]]


def of(name: str) -> list[str]:
    return [rest for instruction, rest in instructions() if instruction == name]


def unit() -> dict[str, list[str]]:
    """Return the settings of the unit's [Service], each with all its values."""
    text = (ROOT / "deploy" / "bowerbird.service").read_text()
    service = text.split("[Service]")[1].split("[Install]")[0]
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^(\w+)=(.*)$", service, flags=re.MULTILINE):
        found.setdefault(key, []).append(value)
    return found


def calls_in(text: str) -> list[list[str]]:
    """Return the calls of bowerbird in the lines of a block, whoever passes them on; `server` is our service's name."""
    calls = []
    for line in text.splitlines():
        words = shlex.split(line)
        places = [n for n, word in enumerate(words) if Path(word).name == "bowerbird" or word == "server"]
        after = words[places[-1] + 1 :] if places else []
        end = next((n for n, word in enumerate(after) if re.fullmatch(r"[|&;>]+", word)), len(after))
        if after[:end] and after[0].isalpha():
            calls.append(["bowerbird", *after[:end]])
    return calls


def test_what_the_image_starts_is_a_command_of_ours() -> None:
    [entry], [started] = of("ENTRYPOINT"), of("CMD")
    words = [*json.loads(entry), *json.loads(started)]
    assert words[:2] == ["bowerbird", "serve"]
    assert {"--data-dir", "--host"} <= set(words)
    check(words)


def test_the_image_has_two_stages_a_user_without_rights_and_volumes_of_that_user() -> None:
    first, last = of("FROM")
    assert first == "python:3.12-slim AS build"
    assert last == "python:3.12-slim"
    [user], [volumes] = of("USER"), of("VOLUME")
    assert int(user) > 999
    order = [name for name, _ in instructions()]
    assert order.index("USER") < order.index("CMD")
    made = next(rest for rest in of("RUN") if "useradd" in rest)
    assert f"--uid {user}" in made
    assert all(volume in made for volume in json.loads(volumes))
    assert json.loads(volumes) == ["/runs", "/data"]
    [health] = of("HEALTHCHECK")
    code = json.loads(health[health.index("[") :])[2]
    compile(code, "healthcheck", "exec")
    assert "/readyz" in code
    assert f":{of('EXPOSE')[0]}/readyz" in code


def test_the_image_installs_the_torch_that_is_held_to() -> None:
    assert re.search(r"^torch==2\.13\.0$", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE)
    assert any("--constraint constraints.txt" in rest for rest in of("RUN"))


def test_everything_that_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert rules[0] == "*"
    copied = [word for rest in of("COPY") if "--from" not in rest for word in rest.split()[:-1]]
    assert {"src", "pyproject.toml", "constraints.txt"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists()
        assert f"!{name}" in rules
    assert not any(fnmatch.fnmatch("runs", rule[1:]) for rule in rules if rule.startswith("!"))


def test_the_services_start_commands_of_ours_and_are_shut_in() -> None:
    document = yaml.safe_load((ROOT / "compose.yaml").read_text())
    server, train = document["services"]["server"], document["services"]["train"]
    check(["bowerbird", *train["command"]])
    assert train["profiles"] == ["nightly"]
    assert "profiles" not in server
    for service in (server, train):
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        named = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(".")]
        assert set(named) <= set(document["volumes"])
    assert {volume.split(":")[1] for volume in server["volumes"]} == set(json.loads(of("VOLUME")[0]))
    assert all(port.startswith("127.0.0.1:") for port in server["ports"])
    assert int(server["stop_grace_period"].removesuffix("s")) > DRAIN_S


def test_the_unit_starts_a_command_of_ours_and_waits_for_what_is_being_answered() -> None:
    service = unit()
    [started] = service["ExecStart"]
    program, *words = shlex.split(started)
    assert Path(program).name == "bowerbird"
    check(["bowerbird", *words])
    assert "--data-dir" in words
    assert service["Restart"] == ["on-failure"]
    assert service["RestartPreventExitStatus"] == ["2"]
    assert int(service["TimeoutStopSec"][0]) > DRAIN_S


def test_the_unit_may_write_into_its_own_directory_only() -> None:
    service = unit()
    assert service["User"] == ["bowerbird"]
    wanted = {
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
        "PrivateDevices": "yes", "ProtectKernelModules": "yes", "ProtectKernelTunables": "yes",
        "RestrictNamespaces": "yes", "CapabilityBoundingSet": "", "UMask": "0077", "StateDirectory": "bowerbird",
        "StateDirectoryMode": "0700", "WorkingDirectory": "/var/lib/bowerbird",
    }  # fmt: skip
    assert {key: service[key] for key in wanted} == {key: [value] for key, value in wanted.items()}
    assert "MemoryDenyWriteExecute" not in service  # torch makes code as it runs


def test_the_unit_can_be_parsed_and_has_its_sections() -> None:
    parser = RawConfigParser(strict=False)
    parser.read(ROOT / "deploy" / "bowerbird.service")
    assert parser.sections() == ["Unit", "Service", "Install"]
    assert parser["Install"]["WantedBy"] == "multi-user.target"


@pytest.mark.parametrize(("page", "least"), [("deploy.md", 6), ("nightly.md", 5)])
def test_commands_that_a_page_only_shows_are_ours_too(page: str, least: int) -> None:
    shown = [one.text for one in blocks_of(ROOT / "docs" / page) if one.language == "text"]
    calls = [call for text in shown for call in calls_in(text)]
    assert len(calls) >= least
    for call in calls:
        check(call)


def test_the_page_names_files_that_there_are() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    for name in ("Dockerfile", "compose.yaml", "deploy/bowerbird.service", "constraints.txt"):
        assert name in text
        assert (ROOT / name).is_file()
    assert f"{DRAIN_S} seconds at most" in text
    assert f"user {of('USER')[0]}" in text


@pytest.mark.parametrize(
    ("line", "said"),
    [("bowerbird serve runs/live --hots x", "--hots"), ("bowerbird sreve runs/live", "no such command")],
)
def test_a_command_that_is_not_ours_is_noticed(line: str, said: str) -> None:
    check(shlex.split("bowerbird serve runs/live --host x"))
    with pytest.raises(AssertionError, match=said):
        check(shlex.split(line))


def test_calls_are_found_in_lines_of_other_programs() -> None:
    text = (
        "docker run -v a:/a bowerbird train x --out y\n/opt/bin/bowerbird doctor z || exit 1\ncd bowerbird && ls\n"
        "docker build -t bowerbird .\nuseradd bowerbird\n"
    )
    assert calls_in(text) == [["bowerbird", "train", "x", "--out", "y"], ["bowerbird", "doctor", "z"]]
