"""What Slipway remembers. `opening.open_store` gives a `store.Store`, `artifacts` keeps the models themselves."""
