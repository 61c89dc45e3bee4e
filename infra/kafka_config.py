"""The configuration files of the embedded broker: one node that is broker and controller.

The broker runs in its own folder and all paths in these files are relative to it, since Java
reads them as Latin-1 and takes a comma in ``log.dirs`` for a separator: so any folder name works.
"""

DATA = "data"
LOG = "broker.log"
CONSOLE = "console.log"
PROPERTIES = "server.properties"
LOGGING = "log4j2.properties"


def server_settings(port: int, controller_port: int) -> dict[str, str]:
    """Return Kafka's settings for the two loopback ports, by the names that Kafka gives them."""
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": DATA,
        "auto.create.topics.enable": "false",
        # One node holds one replica of everything, and a few partitions start faster than fifty.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        # A broker that was killed may register again only when its old session has ended (9 s).
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        # Waiting for more members before the first assignment only delays a start here.
        "group.initial.rebalance.delay.ms": 0,
    }
    return {key: str(value) for key, value in settings.items()}


def server_properties(port: int, controller_port: int) -> str:
    """Return ``server.properties`` for the two loopback ports."""
    settings = server_settings(port, controller_port)
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def logging_properties(limit_mb: int = 10, files: int = 3) -> str:
    """Return ``log4j2.properties``: warnings into a file of ``limit_mb``, ``files`` old ones."""
    properties: dict[str, str | int] = {
        "rootLogger.level": "WARN",
        "rootLogger.appenderRef.file.ref": "FILE",
        "appender.file.type": "RollingFile",
        "appender.file.name": "FILE",
        "appender.file.fileName": LOG,
        "appender.file.filePattern": f"{LOG}.%i",
        "appender.file.layout.type": "PatternLayout",
        "appender.file.layout.pattern": "%d %p %c %m%n",
        "appender.file.policies.type": "Policies",
        "appender.file.policies.size.type": "SizeBasedTriggeringPolicy",
        "appender.file.policies.size.size": f"{limit_mb}MB",
        "appender.file.strategy.type": "DefaultRolloverStrategy",
        "appender.file.strategy.max": files,
    }
    return "".join(f"{key}={value}\n" for key, value in properties.items())
