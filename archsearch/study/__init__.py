"""The study file and its folder, schemas and objectives."""
