"""Tests of the services through the interface that their clients use."""
