"""Apache Kafka's jars: fetched once from Maven Central, found without asking it afterwards."""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import structlog

from streams.errors import BrokerError

KAFKA_VERSION = "4.4.0"
# Kafka logs through SLF4J and its jar brings no binding: without the second it is silent. They are
# resolved one by one, since together the resolver picks kafka-clients 3.9.1.
KAFKA = (
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.5",
)
CACHE = "classpath.json"
JARS = "jars"


def kafka_classpath(folder: Path) -> str:
    """Return the Java class path of Apache Kafka; keeps the jars in ``folder``, and their list.

    The resolver rebuilds its own folder of jars whenever it is asked; a broker that starts at that
    moment would miss classes. So each state folder has jars of its own: links, where it can.

    Raises:
        BrokerError: the jars are not on this machine and can't be fetched.
    """
    jars = cached_jars(folder)
    if jars is None:
        jars = _resolve(folder / JARS)
        content = {"kafka": list(KAFKA), "jars": {str(jar): jar.stat().st_size for jar in jars}}
        _write(folder / CACHE, json.dumps(content, indent=1))
    return os.pathsep.join(map(str, jars))


def cached_jars(folder: Path) -> list[Path] | None:
    """Return the jars found at an earlier start, None unless all are still there, whole."""
    try:
        content = json.loads((folder / CACHE).read_text())
        if content["kafka"] != list(KAFKA):
            return None
        if any(Path(jar).stat().st_size != size for jar, size in content["jars"].items()):
            return None
        return [Path(jar) for jar in content["jars"]] or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def jars_at_hand() -> bool:
    """Return whether the jars lie in this machine's Maven cache, so that no network is needed."""
    from jgo.config import GlobalSettings

    repository = Path(GlobalSettings.load().repo_cache)
    for coordinate in KAFKA:
        group, artifact, version = coordinate.split(":")
        folder = repository.joinpath(*group.split("."), artifact, version)
        if not (folder / f"{artifact}-{version}.jar").is_file():
            return False
    return True


def central_answers(timeout_s: float) -> bool:
    """Return whether Maven Central can be reached from here, with the resolver's own client."""
    import requests
    from jgo.constants import MAVEN_CENTRAL_URL

    try:
        return requests.head(f"{MAVEN_CENTRAL_URL}/", timeout=timeout_s).status_code < 500
    except requests.RequestException:
        return False


def _resolve(into: Path) -> list[Path]:
    if not jars_at_hand():
        structlog.get_logger().info(
            f"fetching Apache Kafka {KAFKA_VERSION} from Maven Central: 44 MB, once per machine"
        )
    with _one_at_a_time():
        jars = _build()
        damaged = [jar for jar in jars if not zipfile.is_zipfile(jar)]
        if damaged:  # a download that was cut off leaves a file that is never fetched again
            _discard(damaged)
            jars = _build(update=True)
        into.mkdir(parents=True, exist_ok=True)
        return [_own(jar, into / jar.name) for jar in jars]


def _own(jar: Path, target: Path) -> Path:
    """Link ``jar``, or copy it where that can't be, to ``target``."""
    target.unlink(missing_ok=True)
    try:
        os.link(jar.resolve(), target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(jar, target)
    return target


def _build(update: bool = False) -> list[Path]:
    import jgo

    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            found = [jgo.build(coordinate, update=update).all_jars for coordinate in KAFKA]
        return list({Path(jar).name: Path(jar) for jars in found for jar in jars}.values())
    # The resolver raises whatever its HTTP client, XML parser or file system does.
    except Exception as error:
        raise BrokerError(
            f"Apache Kafka {KAFKA_VERSION} is not on this machine and can't be fetched from Maven "
            f"Central ({_brief(error)}): allow this machine to reach it once (44 MB) and run the "
            "command again, copy ~/.m2/repository from a machine that has it, or set "
            "KAFKA_BOOTSTRAP_SERVERS to a Kafka that runs"
        ) from error


def _discard(jars: list[Path]) -> None:
    from jgo.config import GlobalSettings

    names = {jar.name for jar in jars}
    for jar in [*jars, *Path(GlobalSettings.load().repo_cache).rglob("*.jar")]:
        if jar.name in names:
            jar.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Hold the machine-wide lock: two downloads into one cache would spoil each other."""
    from jgo.config import GlobalSettings

    folder = Path(GlobalSettings.load().cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "kappa.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _brief(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {text[:200]}"


def _write(path: Path, text: str) -> None:
    """Write at once, so that a reader never sees half of it."""
    part = path.with_suffix(f".{os.getpid()}.part")
    part.write_text(text)
    part.replace(path)
