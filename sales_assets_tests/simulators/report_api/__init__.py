"""Tests of the simulated report API over real HTTP on the loopback interface."""
