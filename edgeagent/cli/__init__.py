"""Commands for people: the only package that prints."""
