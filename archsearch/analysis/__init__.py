"""All that is known of a network without building it; limits and verdicts."""
