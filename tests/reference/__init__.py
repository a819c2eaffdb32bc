"""Takes nothing; groups the slow float64 implementations that the fast ones are held against."""
