"""Making a machine a host: what was answered, what is written, what is left to do."""
