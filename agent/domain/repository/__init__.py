"""What one commit declares: files, names, values, rules."""
