"""One vendor, one file: each adapter carries out a port of `taxiway.ports`."""
