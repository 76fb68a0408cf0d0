"""What encrypted files say of themselves without a key."""
