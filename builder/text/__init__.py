"""Go's text rules that a user can see through BuildKit: quoting, patterns, times, redaction. Pure functions of text."""
