"""These are model repositories: their tests run in their own environment, in a build, not here."""

collect_ignore_glob = ["*"]
