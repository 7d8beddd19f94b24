"""Engines that run networks where speed is measured."""

from services.evaluator.engines.protocol import Engine, EngineMissingError, Passes, Running, random_prompts

__all__ = ["Engine", "EngineMissingError", "Passes", "Running", "random_prompts"]
