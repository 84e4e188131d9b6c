"""The state root: where everything lies, the metadata database, and the locks that processes share."""
