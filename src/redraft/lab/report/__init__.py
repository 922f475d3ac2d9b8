"""What came of it, for people to read: figures, diffs and pages made from rows alone."""
