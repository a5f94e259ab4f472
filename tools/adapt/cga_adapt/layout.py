"""Sizes that everything agrees on, in tokens."""

PAGE, UNIT, SINKS = 64, 16, 16
