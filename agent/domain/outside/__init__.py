"""What others are told of a host: decided here, sent elsewhere."""
