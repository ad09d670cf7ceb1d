"""Checks that are too heavy for the tests, and what they share with them."""
