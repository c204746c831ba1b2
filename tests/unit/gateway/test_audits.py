"""Audits at a gateway: how they are asked for, and what its metrics tell of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cocoon_sdk.cli.gateway_settings import load_gateway_settings
from cocoon_sdk.client.auditing import AuditNumbers
from cocoon_sdk.errors import ConfigError
from cocoon_sdk.gateway.metrics import Metrics
from cocoon_sdk.types import Nano
from tests.helpers.audit_town import thresholds


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    monkeypatch.setenv("COCOON_CONFIG", str(path))
    return path


def test_operator_can_have_answers_checked(
    settings_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = tmp_path / "limits.json"
    limits.write_bytes(thresholds().to_bytes())
    settings_file.write_text(
        f'[gateway]\naudit = 0.5\nthresholds = ["{limits}"]\naudit_spend_per_day = "0.02"\n'
        '[gateway.verifier_models]\n"Org/Tiny-1B" = "tiny"\n'
    )
    paid = load_gateway_settings().audits()
    assert paid is not None
    assert (paid.share, paid.verifier, paid.spend_per_day) == (0.5, None, Nano.ton("0.02"))
    assert paid.thresholds == (thresholds(),)

    monkeypatch.setenv("COCOON_GATEWAY_VERIFIER_KEY", "very secret")
    settings = load_gateway_settings(audit=0.05, verifier="http://127.0.0.1:8000")
    own = settings.audits()
    assert own is not None
    assert own.verifier is not None
    assert own.share == 0.05
    assert (own.verifier.url, own.verifier.api_key) == ("http://127.0.0.1:8000", "very secret")
    assert own.verifier.models == {"Org/Tiny-1B": "tiny"}
    assert "secret" not in repr(settings)


def test_operator_without_a_share_has_no_audits(settings_file: Path) -> None:
    assert load_gateway_settings().audits() is None
    assert load_gateway_settings(audit=0.0, verifier="http://127.0.0.1:8000").audits() is None


@pytest.mark.parametrize(
    ("content", "words"), [(None, "No such file"), ("{}", "thresholds"), ("x" * 70_000, "thresholds")]
)
def test_operator_is_told_which_thresholds_are_wrong(
    settings_file: Path, tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "limits.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_gateway_settings(audit=0.05, thresholds=(path,)).audits()


def test_metrics_tell_what_audits_came_to() -> None:
    metrics = Metrics()
    metrics.audited(
        AuditNumbers(seen=40, chosen=4, dropped=1, passed=2, failed=1, unreceipted=3, cost=Nano(2_000_000))
    )
    text = metrics.render().decode()
    assert 'cocoon_gateway_audits{outcome="chosen"} 4.0' in text
    assert 'cocoon_gateway_audits{outcome="dropped"} 1.0' in text
    assert 'cocoon_gateway_audits{outcome="failed"} 1.0' in text
    assert 'cocoon_gateway_audits{outcome="unreceipted"} 3.0' in text
    assert "cocoon_gateway_audit_cost_ton 0.002" in text
