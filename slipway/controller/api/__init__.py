"""The management API: FastAPI around the controller's Commands. `app.make_app` makes it, `listening` serves it."""
