"""The words for sources of idle memory that can't be had."""

from __future__ import annotations

import errno

import pytest

from pmadvise._reasons import idle
from pmadvise._reasons.answer import Answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (idle.no_page_idle(errno.ENOENT), "CONFIG_IDLE_PAGE_TRACKING"),
        (idle.no_page_idle(errno.EPERM), "CAP_SYS_ADMIN"),
        (idle.no_page_idle(errno.EACCES), "run as root"),
        (idle.no_page_idle(errno.EROFS), "--privileged"),
        (idle.no_page_idle(errno.EIO), "does not work"),
        (idle.no_damon(errno.ENOENT), "CONFIG_DAMON_VADDR"),
        (idle.no_damon(errno.EOPNOTSUPP), 'source="mappings"'),
        (idle.no_damon(errno.EACCES), "run as root"),
        (idle.no_damon(errno.EINVAL), "does not work"),
        (idle.tracked(), "working_set()"),
    ],
)
def test_each_has_a_reason_and_a_remedy(answer: Answer, words: str) -> None:
    """What is missing, and what to do."""
    assert not answer
    assert words in str(answer)
    assert answer.reason
    assert answer.remedy


@pytest.mark.parametrize(
    ("enabled", "module"),
    [
        ({}, None),
        ({"damon_stat": b"N\n", "damon_reclaim": b"N\n"}, None),
        ({"damon_stat": b"Y\n"}, "damon_stat"),
        ({"damon_stat": b"N\n", "damon_lru_sort": b"1\n"}, "damon_lru_sort"),
    ],
)
def test_the_module_that_runs(
    monkeypatch: pytest.MonkeyPatch, enabled: dict[str, bytes], module: str | None
) -> None:
    """One that is there and not enabled does not use DAMON; else it is named."""
    files = {
        f"/sys/module/{name}/parameters/enabled": text for name, text in enabled.items()
    }
    monkeypatch.setattr(idle, "read_or_none", files.get)
    assert idle.running_module() == module
    busy = idle.no_damon(errno.EBUSY)
    assert (module or "somebody else") in busy.reason.lower()
