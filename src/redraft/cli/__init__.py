"""The command line: one file per noun, nothing but arguments in and tables out."""
