"""Tests of the memory part of training."""
