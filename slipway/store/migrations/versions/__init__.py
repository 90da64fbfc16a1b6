"""The steps, in the order of their numbers. Each is complete in itself and imports nothing of Slipway, whose tables may
have moved on by the time it runs."""
