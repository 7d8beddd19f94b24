"""Bringing up a farm on one machine, as processes or in containers: `python -m deploy.farm`, which `make` calls."""
