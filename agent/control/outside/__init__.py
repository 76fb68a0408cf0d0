"""What others are told of the work, beside it: none of it delays or fails what is done."""
