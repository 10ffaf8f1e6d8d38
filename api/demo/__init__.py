"""The demo company: a believable plant with some months behind it, and machines that live while one looks."""
