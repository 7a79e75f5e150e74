"""Defines the verb `coopseg serve`."""

from __future__ import annotations

import signal
from typing import Annotated

import typer

from coopseg.cli.console import Device, ModelPath, Refine, Trust, say, warn


def serve(
    model: ModelPath,
    host: Annotated[
        str, typer.Option(help="address to listen on; by default this machine alone can reach it")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port; 0: any that is free")] = 8000,
    device: Device = "auto",
    refine: Refine = 1,
    trust: Trust = None,
    most_mb: Annotated[int, typer.Option("--most-mb", min=1, help="most megabytes of a request")] = 2048,
    keep_minutes: Annotated[
        float, typer.Option("--keep-minutes", min=0.1, help="minutes for which results can be fetched")
    ] = 30,
) -> None:
    """Serve a page on this machine to which scans are dropped, and which shows what was segmented.

    It takes NIfTI files, DICOM, folders and zip files of them, segments one job after another, and gives what
    `coopseg predict --page --dicom` writes and prints: pages, label maps, measures.csv, SEG and SR of DICOM,
    and warnings. Each job lies in a temporary folder, which is removed some minutes after its end, when it is
    removed on the page, and when the service ends. Nothing is logged of what is sent. There are no passwords.
    Needs `pip install "coopseg[serve]"`.
    """
    from coopseg.serve.run import serve as run_service
    from coopseg.serve.worker import How

    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # which nohup asks for
        # a closed terminal ends the service as SIGTERM does, so that nothing is left
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    run_service(
        How(model, device, refine, tuple(trust or ())),
        host=host,
        port=port,
        most_mb=most_mb,
        keep_minutes=keep_minutes,
        say=say,
        warn=warn,
    )
