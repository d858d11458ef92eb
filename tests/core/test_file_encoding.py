"""Tools around the registry read files in the encoding of the system, which on many Windows machines is cp1252."""

from __future__ import annotations

from by_location import REPOSITORY

TEXT = ("py", "toml", "md", "yml", "yaml", "json", "cff")


def outside_cp1252(text: str) -> list[str]:
    """The characters of a text that cp1252 does not have, as escapes."""
    return sorted({ascii(letter) for letter in text if letter.encode("cp1252", "ignore") == b""})


def test_every_text_file_stays_inside_cp1252():
    paths = [path for ending in TEXT for path in REPOSITORY.rglob(f"*.{ending}")]
    relative = [path.relative_to(REPOSITORY) for path in paths]
    # Of what begins with a dot, only the configuration that git keeps is ours.  The host opens translations as UTF-8.
    own = [
        path
        for path in relative
        if path.parts[0] == ".github"
        or (path.parts[0] != "locales" and not any(part.startswith(".") for part in path.parts[:-1]))
    ]
    assert len(own) > 100
    found = {path.as_posix(): outside_cp1252((REPOSITORY / path).read_text(encoding="utf-8")) for path in own}
    assert not {path: letters for path, letters in found.items() if letters}


def test_the_project_file_reads_the_same_in_every_encoding():
    """comfy-cli opens it without saying in which."""
    assert (REPOSITORY / "pyproject.toml").read_bytes().isascii()


def test_letters_outside_are_seen():
    assert outside_cp1252("caf\xe9 \u201cgood\u201d") == []
    assert outside_cp1252("\u0663 \u043f") == ["'\\u043f'", "'\\u0663'"]
