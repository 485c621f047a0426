"""The embedded set-up: the processes of `taxiway up`, started, watched and stopped."""
