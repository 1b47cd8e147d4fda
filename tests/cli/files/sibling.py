"""A module beside the user's file."""

TARGET = 0.5
