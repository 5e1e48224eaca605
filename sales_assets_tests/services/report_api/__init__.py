"""The stand-in report API, over real HTTP on the loopback."""
