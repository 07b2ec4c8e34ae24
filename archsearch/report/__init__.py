"""A study as one HTML file: a study's files -> facts -> charts -> page."""
