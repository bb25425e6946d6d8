"""What tests of several modules share."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from sip_agent import log

STRUCTLOG_PROCESSORS = tuple(structlog.get_config()["processors"])


@pytest.fixture(autouse=True)
def _logs_can_be_captured() -> None:
    """Let `capture_logs` see loggers that a test of a command has configured: they keep the agent's list for ever."""
    log._processors[:] = STRUCTLOG_PROCESSORS
    structlog.reset_defaults()
    structlog.configure(processors=log._processors)


@pytest.fixture
def _restored_logging() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def own_environment(_restored_logging: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No settings but the test's own, an empty working folder, and logging left as it was found."""
    for name in [name for name in os.environ if name.startswith("SIP_AGENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
