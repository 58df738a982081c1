"""A private RabbitMQ for tests: own folders, own ports on loopback, gone afterwards."""

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

from tests.fixtures.leftovers import VARIABLE
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import wait_for

# The one on the path is a wrapper that changes the user first.
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")


class PrivateBroker:
    """One RabbitMQ node, with guest as its only user, on loopback.

    Args:
        folder: for its database, logs, cookie and configuration.
    """

    def __init__(self, folder: Path) -> None:
        port, distribution, epmd = (free_port() for _ in range(3))
        (folder / "plugins").write_text("[].")
        (folder / "rabbit.conf").write_text(f"listeners.tcp.1 = 127.0.0.1:{port}\nloopback_users.guest = true\n")
        self.url = f"amqp://guest:guest@127.0.0.1:{port}/"
        self._log = folder / "output.log"
        self._environment = {
            "PATH": os.environ["PATH"], VARIABLE: os.environ[VARIABLE], "HOME": str(folder), "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": f"tokka{port}@localhost", "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"), "RABBITMQ_LOG_BASE": str(folder / "logs"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbit.conf"), "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"), "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            # Two schedulers instead of one per core, and none that spins.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
        }  # fmt: skip
        self._port = port
        self.start()

    def start(self) -> None:
        """Start the node, or start it again on what it has kept."""
        with self._log.open("wb") as output:
            self._child = subprocess.Popen(
                [str(SERVER)], env=self._environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        wait_for(self._listens, what=self._said)

    def stop(self) -> None:
        """End the node, and Erlang's port mapper that it brought along."""
        os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        if epmd := shutil.which("epmd"):
            kill = [epmd, "-kill"]
            # It refuses for a moment, until it has noticed that the node is gone.
            wait_for(lambda: b"Killed" in subprocess.run(kill, env=self._environment, capture_output=True).stdout)

    def _listens(self) -> bool:
        assert self._child.poll() is None, f"RabbitMQ ended: {self._said()}"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _said(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]
