"""Running a planned step: interpreting, calling compiled islands, the state of a session."""
