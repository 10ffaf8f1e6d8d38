"""Work that comes again: recurrence, occurrences, checklists."""
