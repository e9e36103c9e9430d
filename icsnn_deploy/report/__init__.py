"""Tables, bars and plain text for what the commands print."""
