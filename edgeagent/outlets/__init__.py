"""Ways out of the site for messages."""
