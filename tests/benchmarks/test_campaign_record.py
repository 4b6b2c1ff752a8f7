"""The campaign's record: refused when it is damaged, of other commands, or in use."""

import json
from pathlib import Path

import pytest
from small_campaign import fail, run, say

from benchmarks.campaign_record import held


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": 1, "steps": {"a": {"comm', "Unterminated string"),
        ("[]", "it has no steps in schema 1"),
        ('{"schema": 2, "steps": {}}', "it has no steps in schema 1"),
        ('{"schema": 1, "steps": {"a": {"status": "done"}}}', "a has not the keys command, status"),
        ("ENTRY status=finished", "a has status = 'finished'"),
        ("ENTRY seconds=true", "a has seconds = True"),
        ("ENTRY of=7", "a has of = 7"),
    ],
)
def test_a_damaged_or_foreign_record_is_refused(tmp_path: Path, content: str, said: str) -> None:
    if content.startswith("ENTRY"):
        run(tmp_path, say("a"))
        key, value = content.split()[1].split("=")
        found = json.loads((tmp_path / "campaign.json").read_text())
        found["steps"]["a"][key] = value if key == "status" else json.loads(value)
        content = json.dumps(found)
    (tmp_path / "campaign.json").write_text(content)
    with pytest.raises(ValueError, match="is not what a campaign writes") as refused:
        run(tmp_path, say("a"))
    assert said in str(refused.value)
    assert "restore it, or give another --out" in str(refused.value)
    assert (tmp_path / "campaign.json").read_text() == content


def test_a_record_of_other_commands_is_refused(tmp_path: Path) -> None:
    run(tmp_path, say("a"))
    with pytest.raises(ValueError, match="is of another campaign: there a is `python -c open"):
        run(tmp_path, fail("a"))


def test_two_campaigns_do_not_share_a_folder(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ValueError, match="a campaign is running in"), held(tmp_path):
        raise AssertionError("held twice")
    with held(tmp_path):
        pass
