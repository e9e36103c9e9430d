"""Compare recordings of one network spike for spike, and judge the result."""
