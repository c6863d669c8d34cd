"""A plan, or the catalogue, as text for people and JSON for programs. No arithmetic beyond rounding."""
