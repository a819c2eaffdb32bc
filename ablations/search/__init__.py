"""Takes a search spec; has Optuna suggest, Ray train, and fresh seeds confirm."""
