"""What pages show, made of the documents of the API by pure functions."""
