"""How counts come about given a stimulus: one file for each law."""
