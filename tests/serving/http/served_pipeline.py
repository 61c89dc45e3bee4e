"""The pipeline that a process of ``kappa serve`` is started with in tests."""

from tests.serving.http.shop import new_pipeline

pipeline = new_pipeline(name="tserved")
