"""`slipway serve`: from the command line to a running server."""

from __future__ import annotations

import typer

from slipway.cli.options import ServeOptions, command_of


def act(given: ServeOptions) -> None:
    """Serve trained models over HTTP and gRPC.

    \b
    slipway serve model.onnx                            an ONNX file, on port 8080
    slipway serve churn.joblib --replicas 4             a scikit-learn pipeline, four processes
    slipway serve my_models:Ranker --port 9000          a Python class
    slipway serve a=a.onnx b=b.onnx --slo-ms 20         two models, answers within 20 ms
    SLIPWAY_PORT=0 slipway serve model.onnx --dry-run   options from the environment; only check

    Each option is also read from SLIPWAY_<OPTION>, such as SLIPWAY_MAX_BATCH_ROWS.
    """
    from slipway.cli.plan import plan_server

    spec = plan_server(given)
    if given.dry_run:
        from slipway.cli.rehearse import rehearse

        rehearse(spec)
        return
    from slipway.cli.watch import watcher_for
    from slipway.supervisor.begin import supervise

    watcher = watcher_for(log_json=spec.log_json)
    raise typer.Exit(supervise(spec, watcher=watcher))


serve = command_of(act, ServeOptions)
