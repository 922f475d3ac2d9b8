"""Language models: load one, generate with it, score texts with it. Everything torch begins here."""
