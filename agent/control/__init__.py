"""What happens when: the loop, the event stream, and the wiring of the parts."""
