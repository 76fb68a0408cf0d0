"""What makes a release fail on any machine, however slow."""

NEVER_WELL = "healthcheck: {test: [CMD, 'false'], interval: 5s}"
"""A line of a service that is to end at once: until it has, it does not pass for healthy."""
