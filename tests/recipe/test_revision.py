"""``REV:path``: files as a commit has them, with what they extend, and what is told of those that are not there."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result

from qxmix.cli.main import main
from qxmix.errors import RecipeError
from qxmix.recipe import revision
from qxmix.recipe.revision import extracted, revision_of

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "qxmix: 1\nname: mix\ntarget: any\nfallback: [q8_0]\n"


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(folder), *who, *arguments], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two commits: a recipe that extends a part with Q4_0, then the part with Q5_0 and a broken recipe."""
    top = tmp_path / "repository"
    folder = top / "recipes"
    folder.mkdir(parents=True)
    git(top, "init", "-q", "-b", "main")
    (folder / "mix.yaml").write_text(HEAD + "default: q8_0\nextends: [parts/_ffn.yaml]\n")
    (folder / "parts").mkdir()
    (folder / "parts/_ffn.yaml").write_text("qxmix: 1\nrules: [{match: ffn_, type: q4_0}]\n")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "first")
    (folder / "parts/_ffn.yaml").write_text("qxmix: 1\nrules: [{match: ffn_, type: q5_0}]\n")
    (folder / "broken.yaml").write_text(HEAD + "default: q9_9\n")
    git(top, "add", "-A")
    git(top, "commit", "-qm", "second")
    monkeypatch.chdir(top)
    return top


def diff(*arguments: object, code: int) -> Result:
    done = CliRunner().invoke(main, ["diff", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def test_a_recipe_is_what_it_was_with_all_that_it_extends(repository: Path, demo_model: Path) -> None:
    mix = "recipes/mix.yaml"
    lines = diff(f"HEAD~1:{mix}", mix, demo_model, code=1).stdout.splitlines()
    assert any(line.split()[0].startswith("ffn_") and line.split()[-4:-2] == ["Q4_0", "Q5_0"] for line in lines[3:-2])
    assert lines[0].startswith(f"A  HEAD~1:{mix}: ")
    diff(f"main:{mix}", mix, demo_model, code=0)
    # What stands in the working tree does not count.
    (repository / "recipes/parts/_ffn.yaml").unlink()
    diff(f"HEAD~1:{mix}", f"HEAD:{mix}", demo_model, code=1)


def test_paths_from_here(repository: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository / "recipes/parts")
    diff("HEAD:../mix.yaml", "HEAD:recipes/mix.yaml", demo_model, code=0)
    monkeypatch.chdir(repository / "recipes")
    diff("HEAD:./mix.yaml", "mix.yaml", demo_model, code=0)


def test_lock_files(repository: Path, demo_model: Path) -> None:
    lock = repository / "mix.lock.json"
    assert CliRunner().invoke(main, ["plan", "recipes/mix.yaml", str(demo_model), "--lock", str(lock)]).exit_code == 0
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "lock")
    diff("HEAD:mix.lock.json", "recipes/mix.yaml", demo_model, code=0)
    diff("HEAD:mix.lock.json", "HEAD~2:recipes/mix.yaml", demo_model, code=1)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("nowhere:recipes/mix.yaml", "the repository has no revision 'nowhere'; 'git log --oneline'"),
        ("--all:recipes/mix.yaml", "the repository has no revision '--all'"),
        ("HEAD:mix.yaml", "there is no mix.yaml in HEAD; did you mean 'recipes/mix.yaml'?"),
        ("HEAD:recipes/max.yaml", "did you mean 'recipes/mix.yaml'?"),
        ("HEAD:elsewhere", "paths start at the top of the repository, or with ./ here"),
        ("HEAD:../out.yaml", "there is no ../out.yaml in HEAD"),
        ("HEAD:recipes/broken.yaml", "HEAD:recipes/broken.yaml:5: default"),
    ],
)
def test_what_is_not_there_or_broken_is_told(repository: Path, demo_model: Path, name: str, text: str) -> None:
    done = diff("--", name, repository / "recipes/mix.yaml", demo_model, code=2)
    assert text in " ".join(done.stderr.split())
    assert "qxmix-revision-" not in done.stderr


def test_no_repository_and_no_git(tmp_path: Path, demo_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "is in no git repository" in diff("HEAD:a.yaml", "pure/q4_0", demo_model, code=2).stderr
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RecipeError, match="git cannot be run"), extracted(revision.Revision("HEAD", "a")):
        pass


def test_a_colon_alone_makes_no_revision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").touch()
    for text in ("a:b", ":b", "a:", "https://x/y.gguf", "C:\\a.yaml", "c:/a.yaml", "a.yaml", "a" * 5000 + ":b\0"):
        assert revision_of(text) is None
    assert str(revision_of("HEAD^:a:b.yaml")) == "HEAD^:a:b.yaml"


def test_markdown_for_a_pull_request(repository: Path, demo_model: Path) -> None:  # noqa: ARG001 - the folder one is in
    mix = "recipes/mix.yaml"
    text = diff(f"HEAD~1:{mix}", mix, demo_model, "--markdown", code=1).stdout
    lines = text.splitlines()
    assert lines[0] == f"|  | A: HEAD~1:{mix} | B: {mix} | change |"
    assert lines[1] == "| --- | ---: | ---: | ---: |"
    assert any(line.startswith("| bits per weight | ") for line in lines)
    assert "| tensors | layers | n | A | B | size |" in lines
    assert " | Q4_0 | Q5_0 | +" in text
    assert "tensors differ, +" in lines[-1]
    same = diff(f"HEAD:{mix}", mix, demo_model, "--markdown", code=0).stdout
    assert same.rstrip().endswith("No difference: every tensor has the same type in both.")
    assert "--measure" in diff(mix, mix, "--measure", mix, code=2).stderr
