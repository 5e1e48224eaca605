"""Simulators of the systems that the platform talks to and does not own: report API, partner, sender.

Each speaks the real system's wire format on the loopback and can be told to misbehave. They serve demos, tests,
benchmarks and trying a change without the real system. The platform meets them over HTTP only: nothing but the
command line and the demo imports them.
"""
