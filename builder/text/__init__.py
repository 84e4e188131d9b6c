"""Go's text rules that a user can see through BuildKit: quoting, JSON, paths, patterns, times, redaction. Functions of text."""
