"""The way from scores to patients, intervals, tests and verdicts."""
