"""Effects: one module for each outside thing, which translates its errors at the door."""
