"""Where forges call when something was pushed."""
