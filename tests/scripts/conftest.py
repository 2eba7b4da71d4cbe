"""The table of what was tried, at the end of a run."""

from __future__ import annotations

from typing import Any


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how far each script got."""
    rows: dict[str, list[str]] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            noted = dict(report.user_properties)
            for what in ("sample", "census"):
                if what in noted:
                    terminalreporter.write_line(f"{what} {noted[what]}, {outcome}")
            if "script" not in noted:
                continue
            row = rows.setdefault(noted["script"], [])
            if "steps" in noted:
                row.append(f"{noted['steps']} steps, {outcome}")
            for what in ("outputs", "training step", "updates"):
                if f"{what} from Float64" in noted:
                    parts = noted[f"{what} from Float64"].items()
                    listed = ", ".join(f"{who} {far:.1e}" for who, far in parts)
                    row.append(f"{what} from Float64: {listed}, {outcome}")
                if what in noted:
                    row.append(f"{what} within {noted[what]:.1e} of MindSpore's, {outcome}")
            if "difference" in noted:
                row.append(f"losses within {noted['difference']:.1e} of MindSpore's, {outcome}")
    if rows:
        terminalreporter.section("scripts")
        for name, row in rows.items():
            terminalreporter.write_line(f"{name:14} {'; '.join(row)}")
