"""From a push in git to a run, once per content: what changed, who says so, where it runs, what came of it."""
