"""Adapters: one file loads and runs the models of one framework. `table` names them, `recognise` picks one."""
