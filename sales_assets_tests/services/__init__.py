"""The services, each tested as a client sees it."""
