"""The reference pages say what the code does, because they are written from it and held against it."""

from docs import reference


def test_the_reference_pages_are_up_to_date() -> None:
    assert reference.outdated() == [], "run: make docs"


def test_every_setting_and_every_right_says_what_it_is_for() -> None:
    assert all(field.description for field in reference.Settings.model_fields.values())
    assert all(meaning.strip() for meaning in reference.RIGHTS.values())


def test_every_command_shows_an_example() -> None:
    import typer

    from api import cli

    for path, command in reference._commands(typer.main.get_command(cli.app), "fixwright"):
        assert "Example:" in (command.help or ""), path
