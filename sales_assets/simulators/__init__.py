"""Simulators of external systems: report API, partner, sender.

Each uses the real system's wire format and can inject faults. They serve the demo, tests and benchmarks over HTTP; only
`cli` and `demo` import them.
"""
