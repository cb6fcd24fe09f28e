"""A parity report for people, as a page, and for CI servers, as JUnit XML."""
