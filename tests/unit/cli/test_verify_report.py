"""What people read of one check."""

from __future__ import annotations

import io

from rich.console import Console

from cocoon_sdk.cli.verify_report import report
from cocoon_sdk.verify.checking import Findings
from cocoon_sdk.verify.statistics import Numbers
from cocoon_sdk.verify.structure import Level
from cocoon_sdk.verify.thresholds import SamplingKind


def test_client_reads_why_a_text_could_not_be_compared_with_its_tokens() -> None:
    numbers = Numbers(0.01, 0.02, 0.0, 0.0)
    findings = Findings(
        Level.HONEST, (), (), SamplingKind.SAMPLED, numbers, (), None, unclear="its calls are too many"
    )
    told = io.StringIO()
    Console(file=told, width=200).print(report(findings))
    assert "could not be compared with its tokens: its calls are too many." in told.getvalue()
