"""What is done to the containers of one stack."""
