"""The packages, and hosts that live with them: `make install-test`."""
