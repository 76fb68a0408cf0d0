"""What of a host is as it should be: judgements over what was seen."""
