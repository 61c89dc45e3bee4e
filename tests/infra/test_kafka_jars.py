"""Where Kafka's jars come from, and what is said when they can't come."""

import json
from pathlib import Path

import pytest

from infra import kafka_jars
from infra.kafka_jars import KAFKA, cached_jars, kafka_classpath
from streams.errors import BrokerError


@pytest.fixture
def nothing_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has no jars and can't reach Maven Central."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CACHE_DIR", str(tmp_path / "jgo"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_cached")
def test_without_cache_and_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BrokerError) as caught:
        kafka_classpath(tmp_path)
    message = str(caught.value)
    for part in ("Maven Central", "44 MB", "~/.m2/repository", "KAFKA_BOOTSTRAP_SERVERS"):
        assert part in message
    assert "\n" not in message
    assert not (tmp_path / "classpath.json").exists()


@pytest.mark.usefixtures("nothing_cached")
def test_a_remembered_classpath_needs_no_network_while_its_files_are_whole(tmp_path: Path) -> None:
    jar = tmp_path / "kafka.jar"
    jar.write_bytes(b"12345")
    remembered = {"kafka": list(KAFKA), "jars": {str(jar): 5}}
    (tmp_path / "classpath.json").write_text(json.dumps(remembered))
    assert kafka_classpath(tmp_path) == str(jar)
    jar.write_bytes(b"123")
    assert cached_jars(tmp_path) is None
    jar.unlink()
    assert cached_jars(tmp_path) is None


@pytest.mark.parametrize("content", ["", "[]", '{"kafka": []}', '{"kafka": ["other"], "jars": {}}'])
def test_a_damaged_or_older_memory_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "classpath.json").write_text(content)
    assert cached_jars(tmp_path) is None


def test_a_jar_whose_download_was_cut_off_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    monkeypatch.setenv("JGO_CACHE_DIR", str(tmp_path / "jgo"))
    jar = tmp_path / "m2" / "some.jar"
    jar.parent.mkdir()
    jar.write_bytes(b"PK half of it")
    updates: list[bool] = []

    def build(update: bool = False) -> list[Path]:
        updates.append(update)
        if not jar.exists():
            jar.write_bytes(b"PK\5\6" + bytes(18))  # the smallest whole archive
        return [jar]

    monkeypatch.setattr(kafka_jars, "_build", build)
    assert Path(kafka_classpath(tmp_path)).read_bytes() == jar.read_bytes()
    assert updates == [False, True]


def test_a_broker_keeps_its_jars_while_the_resolver_rebuilds_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jar = tmp_path / "resolver" / "some.jar"
    jar.parent.mkdir()
    jar.write_bytes(b"PK\5\6" + bytes(18))
    monkeypatch.setattr(kafka_jars, "_build", lambda: [jar])
    classpath = kafka_classpath(tmp_path / "home")
    jar.unlink()  # as the resolver does before it links anew
    assert Path(classpath).is_file()
    assert kafka_classpath(tmp_path / "home") == classpath
