"""The simulated report API, over real HTTP on the loopback."""
