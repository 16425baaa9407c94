"""Tests of the harness itself: its judges are shown histories made by hand."""
