"""How the processes are run: Dagster's instance, on one machine and on many."""
