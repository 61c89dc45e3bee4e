"""``kappa schema``: what the topics hold, for those who read and write them."""

import json

import typer

from kappa.cli.context import DEFAULT_PIPELINE, PipelineOption


def schema(pipeline: PipelineOption = DEFAULT_PIPELINE) -> None:
    """Print the pipeline's topics and the JSON Schema of their records, as AsyncAPI 3."""
    from kappa.loading import load_pipeline
    from serving.asyncapi import asyncapi

    typer.echo(json.dumps(asyncapi(load_pipeline(pipeline)), indent=2))
