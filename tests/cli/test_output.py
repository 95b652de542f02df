"""What people are shown is somebody else's words: they command no terminal, are no markup, and no word of a shell."""

import io
import shlex

import pytest
from rich.console import Console

from bowerbird.cli import output

HOSTILE = ("\x1b]0;owned\x07", "\x1b[2J", "\x9b31m", "a\rb", "\u202egnp.exe", "\x7f", "a\x08b")
MARKUP = ("[bold]x", "[/]", "[link=http://host]x[/link]", "\\[x", "[red", "\\", "a[b]")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    text = io.StringIO()
    console = Console(file=text, width=200, force_terminal=True, color_system=None)
    monkeypatch.setattr(output, "out", console)
    monkeypatch.setattr(output, "err", console)
    return text


@pytest.mark.parametrize("value", HOSTILE)
def test_no_letter_commands_the_terminal(screen: io.StringIO, value: str) -> None:
    output.show_table(value, ["item", value], [[value, value]], left=2)
    output.say(value)
    output.tell(value, mark="[bold]note[/] ")
    shown = screen.getvalue()
    assert not output.COMMANDS.search(shown)
    assert shown.count("�") >= 6


@pytest.mark.parametrize("value", MARKUP)
def test_nothing_is_markup(screen: io.StringIO, value: str) -> None:
    output.show_table("slate", ["item"], [[value]])
    output.say(f"{value}!")
    output.tell(f"{value}?", mark="[bold]note[/] ")
    lines = screen.getvalue().splitlines()
    assert any(value in line for line in lines[:-2])
    assert lines[-2:] == [f"{value}!", f"note {value}?"]


@pytest.mark.parametrize("value", ["u1", "$(id)", "; rm -rf ~", "a b", "-x", "--help", "'", "\x1b[2J", 7])
def test_a_command_to_be_copied_has_it_as_one_word(value: object) -> None:
    words = shlex.split(f"bowerbird recommend run {output.word(value, '--user')} --explain")
    assert len(words) in (5, 6)
    assert words[-1] == "--explain"
    assert words[3].startswith("--user")
    assert shlex.split(output.word(value)) == [output.COMMANDS.sub("�", str(value))]
