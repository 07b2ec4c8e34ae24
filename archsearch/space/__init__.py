"""What may be searched: spaces, neighborhoods, samples, repairs, edits and counts."""
