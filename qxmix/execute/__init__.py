"""Carrying out a plan: tasks, executors, journal, checks."""
