"""One file per change, in order; once released a file is never edited."""
